//! Path family: what the file is called that a thread opened or a process began, if the user allowed that.
//!
//! Nothing is compared as text. What is allowed is known by the addresses of the inodes, which user space keeps in use by
//! holding them open: numbers would not do, since on some file systems (btrfs) several directories of one device have the
//! same. From a file the way leads up through the directories that it is in, at the root of a mount to where that is
//! mounted, as the kernel itself goes to tell a path. The names are read only when a directory on the way has turned out to
//! be allowed, and only those below it: what is above is called as the user called it.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_NOEXIST, task_struct},
    btf_maps::{Array, HashMap},
    helpers::generated::{bpf_loop, bpf_probe_read_kernel},
    macros::btf_map,
};
use kprobe_core::abi::{
    CpuState, Family, PATH_TEXT, PATH_TRUNCATED, PATH_UNLINKED, PathAllowed, PathExec, PathOpen,
    SYSCALL_TABLE,
};

use crate::{
    args::Args,
    cpu,
    current::{CurrentTask, Who as _},
    emit::{emit_filled, now},
    file::File,
    filter,
    frozen::{PATH_CALLS, masked},
    memory::{Direct, Object, Probed},
    offsets::{
        OFF_DENTRY_D_HASH_PPREV, OFF_DENTRY_D_INODE, OFF_DENTRY_D_NAME_LEN, OFF_DENTRY_D_NAME_NAME,
        OFF_DENTRY_D_PARENT, OFF_DENTRY_D_SEQ_SEQCOUNT_SEQUENCE, OFF_MM_STRUCT_EXE_FILE, OFF_MOUNT_MNT,
        OFF_MOUNT_MNT_MNT_ROOT, OFF_MOUNT_MNT_MOUNTPOINT, OFF_MOUNT_MNT_PARENT,
    },
    storage::{self, TaskStorage},
    syscall::Source,
    task::Task,
};

/// What is allowed, by the address of its inode: the number of its entry in [`PATH_LIST`].
#[btf_map]
pub static PATH_INODES: HashMap<u64, u32, 1> = HashMap::new();

/// What the entries are called.
#[btf_map]
pub static PATH_LIST: Array<PathAllowed, 1> = Array::new();

/// Where a path is put together, from its end to its beginning, so that it ends at byte [`PATH_TEXT`]; and how far the
/// thread has come on its way up. All of it is in a map, because the verifier takes what is read from there for unknown: so
/// one step looks to it like the other, and it comes to an end.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Spelling {
    /// Nothing is ever written behind the first half: it is there because the verifier adds the largest offset to the
    /// largest length, and so that the bytes behind a path are 0.
    text: [u8; ROOM],
    /// Address of the `struct dentry` that the way has come to: the file, or a directory.
    dentry: u64,
    /// Address of its `struct mount`.
    mount: u64,
    /// Not 0: go on to where a mount is only from the root of a file system, not from the root of a mount of a part of it.
    by_tree: u64,
    /// The number of the entry that allows it, or one of the constants below 0.
    found: i64,
    /// Where the path begins.
    begin: u64,
    /// `PATH_*`.
    flags: u64,
}

const ROOM: usize = 2 * PATH_TEXT;

/// By thread, of those that open something.
#[btf_map]
pub static SPELLINGS: TaskStorage<Spelling> = TaskStorage::new();

/// Directories and mounts that the way up may have.
const STEPS: u32 = 64;

/// Not below anything allowed.
const OUTSIDE: i64 = -1;
/// Likewise, but only a part of a file system is mounted where it was opened, and the rest was not looked at.
const OUTSIDE_OF_MOUNT: i64 = -2;
/// The way is longer than [`STEPS`].
const TOO_DEEP: i64 = -3;

/// The thread's own [`Spelling`], which only programs that the thread itself runs access: one at a time.
#[derive(Clone, Copy)]
struct Way(*mut Spelling);

/// What comes next on the way up.
enum Up {
    /// The directory that it is in.
    Parent(u64),
    /// The directory that it is mounted on, and the mount that this is in.
    Mounted(u64, u64),
    /// Nothing.
    Top,
}

macro_rules! words {
    ($($name:ident, $set:ident: $type:ty;)+) => {$(
        #[inline(always)]
        fn $name(self) -> $type {
            // SAFETY: the kernel gave the pointer to the thread's own value.
            unsafe { (&raw const (*self.0).$name).read_volatile() }
        }

        #[inline(always)]
        fn $set(self, value: $type) {
            // SAFETY: likewise.
            unsafe { (&raw mut (*self.0).$name).write_volatile(value) };
        }
    )+};
}

/// The longest name of a file, and of an entry of the list.
const MOST_NAME: u64 = PATH_TEXT as u64 - 1;

impl Way {
    words! {
        dentry, set_dentry: u64;
        mount, set_mount: u64;
        by_tree, set_by_tree: u64;
        found, set_found: i64;
        begin, set_begin: u64;
        flags, set_flags: u64;
    }

    /// From a file.
    #[inline(always)]
    fn start(self, dentry: u64, mount: u64, by_tree: u64) {
        self.set_dentry(dentry);
        self.set_mount(mount);
        self.set_by_tree(by_tree);
        self.set_found(TOO_DEEP);
        self.set_begin(PATH_TEXT as u64);
        self.set_flags(0);
    }

    /// Makes steps until one says that it was the last, by the helper `bpf_loop` (Linux 5.17): the verifier looks at a step,
    /// where of a loop it would look at all of them.
    #[inline(always)]
    fn climb(mut self, step: extern "C" fn(u64, *const Way) -> i64) -> i64 {
        let state = &raw mut self;
        // SAFETY: the verifier looks at the function as the helper will call it: with the state, which is alive.
        unsafe { bpf_loop(STEPS, step as *mut c_void, state.cast(), 0) };
        // SAFETY: likewise. Volatile, because the step may read it, which the compiler does not know.
        unsafe { (&raw const self).read_volatile() }.found()
    }

    #[inline(always)]
    fn up(self, dentry: Object<Probed>) -> Up {
        let here = dentry.address() as u64;
        let parent: u64 = dentry.load(&OFF_DENTRY_D_PARENT);
        let mount = Object::<Probed>::new(self.mount() as *const u8);
        if mount.load::<u64>(&OFF_MOUNT_MNT_MNT_ROOT) == here && (parent == here || self.by_tree() == 0) {
            let above: u64 = mount.load(&OFF_MOUNT_MNT_PARENT);
            if above == mount.address() as u64 {
                return Up::Top;
            }
            return Up::Mounted(mount.load(&OFF_MOUNT_MNT_MOUNTPOINT), above);
        }
        if parent == here { Up::Top } else { Up::Parent(parent) }
    }

    /// Puts a name in front, and `/` between it and what is there. If there is no room, nothing comes in front any more.
    /// Where the path begins then, and its flags.
    #[inline(always)]
    fn prepend(self, name: *const u8, len: u64) -> (u64, u64) {
        const CUT: u64 = PATH_TRUNCATED as u64;
        let (end, flags) = (self.begin(), self.flags());
        let slash = u64::from(end != PATH_TEXT as u64);
        if flags & CUT != 0 || len + slash > end || len > MOST_NAME {
            return (end, flags | CUT);
        }
        // SAFETY: the kernel gave the pointer to the thread's own value.
        let text = unsafe { (&raw mut (*self.0).text).cast::<u8>() };
        if slash != 0 {
            let at = masked::<PATH_TEXT>(end as usize - 1);
            // SAFETY: the place is within the text.
            unsafe { text.add(at).write(b'/') };
        }
        let begin = end - len - slash;
        let (at, len) = (masked::<PATH_TEXT>(begin as usize), masked::<PATH_TEXT>(len as usize));
        // SAFETY: both are less than half of the room that there is. The helper handles faults.
        unsafe { bpf_probe_read_kernel(text.add(at).cast(), len as u32, name.cast()) };
        (begin, flags)
    }

    /// Puts in front what an entry of the list is called.
    #[inline(always)]
    fn prepend_entry(self, entry: u32) {
        let Some(allowed) = PATH_LIST.get_ptr(entry) else { return };
        // SAFETY: the pointer is to a map element, which nobody changes any more.
        let (name, len) =
            unsafe { (&raw const (*allowed).text, (&raw const (*allowed).len).read_volatile()) };
        // `/` and what is below it have one between them.
        let is_root_of_more = len == 1 && self.begin() != PATH_TEXT as u64;
        let (begin, flags) = self.prepend(name.cast(), if is_root_of_more { 0 } else { len.into() });
        self.set_begin(begin);
        self.set_flags(flags);
    }
}

/// The number of the entry that allows a directory or a file.
#[inline(always)]
fn entry_of(dentry: Object<Probed>) -> Option<u32> {
    let inode: u64 = dentry.load(&OFF_DENTRY_D_INODE);
    // SAFETY: the pointer is to a map element, which nobody changes any more.
    PATH_INODES.get_ptr(inode).map(|entry| unsafe { entry.read_volatile() })
}

/// A step of looking for what is allowed on the way up; 1 ends it.
extern "C" fn look(_: u64, way: *const Way) -> i64 {
    // SAFETY: the helper passes what it was given.
    let way = unsafe { way.read() };
    let dentry = Object::<Probed>::new(way.dentry() as *const u8);
    if let Some(entry) = entry_of(dentry) {
        way.set_found(entry.into());
        return 1;
    }
    match way.up(dentry) {
        Up::Parent(parent) => way.set_dentry(parent),
        Up::Mounted(on, above) => {
            if dentry.load::<u64>(&OFF_DENTRY_D_PARENT) != dentry.address() as u64 {
                // Not the root of its file system: there is more of that.
                way.set_flags(1);
            }
            way.set_dentry(on);
            way.set_mount(above);
        }
        Up::Top => {
            way.set_found(if way.flags() != 0 { OUTSIDE_OF_MOUNT } else { OUTSIDE });
            return 1;
        }
    }
    0
}

/// A step of putting a path together; 1 ends it.
///
/// What was found once need not be there any more, so it is looked for again: a name that is in the result was, when it was
/// read, that of a file in the next directory, and the last of these is allowed.
extern "C" fn spell(_: u64, way: *const Way) -> i64 {
    // SAFETY: the helper passes what it was given.
    let way = unsafe { way.read() };
    let dentry = Object::<Probed>::new(way.dentry() as *const u8);
    if let Some(entry) = entry_of(dentry) {
        way.prepend_entry(entry);
        way.set_found(entry.into());
        return 1;
    }
    let before: u32 = dentry.load(&OFF_DENTRY_D_SEQ_SEQCOUNT_SEQUENCE);
    let parent = match way.up(dentry) {
        Up::Parent(parent) => parent,
        Up::Mounted(on, above) => {
            way.set_dentry(on);
            way.set_mount(above);
            return 0;
        }
        Up::Top => {
            way.set_found(OUTSIDE);
            return 1;
        }
    };
    let len: u32 = dentry.load(&OFF_DENTRY_D_NAME_LEN);
    let name: u64 = dentry.load(&OFF_DENTRY_D_NAME_NAME);
    let (begin, flags) = way.prepend(name as *const u8, len.into());
    // It is odd while the file is renamed or removed, and another one afterwards: then the name may be from another directory
    // than the one that was read, or half of one. Once more.
    if before & 1 == 0 && dentry.load::<u32>(&OFF_DENTRY_D_SEQ_SEQCOUNT_SEQUENCE) == before {
        way.set_begin(begin);
        way.set_flags(flags);
        way.set_dentry(parent);
    }
    0
}

/// `sys_exit`.
#[inline(always)]
pub fn opened(source: impl Source) {
    let nr = source.left() as usize;
    if nr >= SYSCALL_TABLE || !PATH_CALLS.bit(nr) {
        return;
    }
    let fd = source.ret();
    if fd < 0 {
        return;
    }
    let now = now();
    let task = storage::current();
    let current = Task::<Direct>::new(Object::new(task));
    if current.is_compat() || !filter::selects_current(CurrentTask(current).thread()) {
        return;
    }
    let file = File::of(current, fd as u32);
    let Some(found) = Found::of(file, task) else { return };
    emit_filled(CurrentTask(current), now, |body: *mut PathOpen| {
        let inode = file.inode();
        // SAFETY: all seven are places in the record's own room.
        unsafe {
            (&raw mut (*body).inode).write(inode.number());
            (&raw mut (*body).device).write(inode.device());
            (&raw mut (*body).entry).write(found.entry);
            (&raw mut (*body).len).write(found.len());
            (&raw mut (*body).flags).write(found.flags);
            (&raw mut (*body).fd).write(fd as i32);
            found.put((&raw mut (*body).text).cast());
        }
    });
}

/// `sched_process_exec`. The task is the current one.
#[inline(always)]
pub fn began() {
    let now = now();
    let task = storage::current();
    let current = Task::<Direct>::new(Object::new(task));
    if !filter::selects_current(CurrentTask(current).thread()) {
        return;
    }
    let file = File::new(current.memory().load(&OFF_MM_STRUCT_EXE_FILE));
    let Some(found) = Found::of(file, task) else { return };
    emit_filled(CurrentTask(current), now, |body: *mut PathExec| {
        let inode = file.inode();
        // SAFETY: all seven are places in the record's own room.
        unsafe {
            (&raw mut (*body).inode).write(inode.number());
            (&raw mut (*body).device).write(inode.device());
            (&raw mut (*body).entry).write(found.entry);
            (&raw mut (*body).len).write(found.len());
            (&raw mut (*body).flags).write(found.flags);
            (&raw mut (*body).reserved).write(0);
            found.put((&raw mut (*body).text).cast());
        }
    });
}

/// A path that may be recorded.
#[derive(Clone, Copy)]
struct Found {
    way: Way,
    entry: u16,
    flags: u32,
}

impl Found {
    /// That of an open file, if it is below something allowed.
    #[inline(always)]
    fn of(file: File, task: *mut task_struct) -> Option<Self> {
        let (dentry, mount) = file.path();
        if dentry == 0 {
            return None;
        }
        let Some(way) = SPELLINGS.make(task).map(Way) else {
            cpu::count_unstored(Family::Path);
            return None;
        };
        let mount = mount.wrapping_sub(OFF_MOUNT_MNT.get());
        let mut by_tree = 0;
        way.start(dentry, mount, by_tree);
        let mut found = way.climb(look);
        if found == OUTSIDE_OF_MOUNT {
            by_tree = 1;
            way.start(dentry, mount, by_tree);
            found = way.climb(look);
        }
        if found >= 0 {
            way.start(dentry, mount, by_tree);
            found = way.climb(spell);
        }
        if found < 0 {
            count(found);
            return None;
        }
        let leaf = Object::<Probed>::new(dentry as *const u8);
        let is_unlinked = leaf.load::<u64>(&OFF_DENTRY_D_HASH_PPREV) == 0
            && leaf.load::<u64>(&OFF_DENTRY_D_PARENT) != dentry;
        let flags = way.flags() as u32 | if is_unlinked { PATH_UNLINKED } else { 0 };
        Some(Self { way, entry: found as u16, flags })
    }
}

/// Counts a file that is not below anything allowed.
#[inline(always)]
fn count(why: i64) {
    if why == TOO_DEEP {
        cpu::count(too_deep);
    } else {
        cpu::count(outside);
    }
}

impl Found {
    /// Bytes that it has.
    #[inline(always)]
    fn len(self) -> u16 {
        (PATH_TEXT as u64 - self.way.begin()) as u16
    }

    /// Writes it to the room for a text in a record, with zeros behind it.
    #[inline(always)]
    fn put(self, to: *mut u8) {
        let begin = self.way.begin() as usize;
        // Of a file whose own name has no room there is nothing; what is in the first half is from files before it.
        let begin = if begin < PATH_TEXT { masked::<PATH_TEXT>(begin) } else { PATH_TEXT };
        let from = self.way.0.cast::<u8>().wrapping_add(begin);
        // SAFETY: the record has room for so many bytes, and so many are behind every place in the first half of the thread's
        // own value, and in the second half, which is 0.
        unsafe { bpf_probe_read_kernel(to.cast(), PATH_TEXT as u32, from.cast()) };
    }
}

#[inline(always)]
fn outside(cpu: *mut CpuState) -> *mut u64 {
    // SAFETY: the pointer is to a map element.
    unsafe { &raw mut (*cpu).paths_outside }
}

#[inline(always)]
fn too_deep(cpu: *mut CpuState) -> *mut u64 {
    // SAFETY: the pointer is to a map element.
    unsafe { &raw mut (*cpu).paths_too_deep }
}

/// Allows what a descriptor of the current process stands for, and what is below it, as the entry with a number. Run by the
/// loader, and attached to nothing. What another entry allows already stays with that. 0 if it is done.
#[inline(always)]
pub fn allow(args: Args) -> i32 {
    let current = storage::current_task();
    let (dentry, _) = File::of(current, args.word(0) as u32).path();
    let inode: u64 = Object::<Probed>::new(dentry as *const u8).load(&OFF_DENTRY_D_INODE);
    if inode == 0 {
        return 1;
    }
    let entry = args.word(1) as u32;
    let is_new = PATH_INODES.insert(inode, entry, BPF_NOEXIST.into()).is_ok();
    if is_new || PATH_INODES.get_ptr(inode).is_some() { 0 } else { 2 }
}
