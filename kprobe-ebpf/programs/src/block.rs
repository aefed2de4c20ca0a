//! Block family: requests to devices, from the submission to the completion.
//!
//! What is submitted is a *bio*; the block layer makes a *request* of one or of several, or has it become part of a request
//! that is there. Who submits is the current thread only then: later steps run in any thread, and in interrupts. So a bio is
//! remembered by its address until the device gets its request, and from then on the request, until it is completed.
//! Addresses are used again, so every beginning overwrites what was there.
//!
//! ```text
//!  block_bio_queue -> BIOS -- block_rq_issue --> REQUESTS -- block_rq_complete --> record
//!                      |  `- merged: record        `- requeued, issued again
//!                      `- block_bio_complete: the device has no requests -----------> record
//! ```

use aya_ebpf::{btf_maps::HashMap, macros::btf_map};
use kprobe_core::abi::{
    BLOCK_BIO, BLOCK_HAS_CHARGED, BLOCK_HAS_ISSUED, BLOCK_HAS_ORIGIN, BLOCK_HAS_QUEUED, BLOCK_KERNEL_FLAGS,
    BLOCK_KERNEL_THREAD, BLOCK_MOST_BIOS, BLOCK_SPLIT, BlockMerge, BlockRequest, Family, MERGE_BACK,
    MERGE_FRONT, MERGE_REQUEST, select,
};

use crate::{
    args::Args,
    cpu,
    current::{CurrentTask, Who as _},
    emit::{emit, min_duration_ns, now},
    filter,
    frozen::SELECT,
    kernel::block as kernel,
    memory::{Direct, Memory, Object, Probed},
    offsets::{
        ABSENT, OFF_BIO_BI_BLKG, OFF_BIO_BI_ITER_BI_SECTOR, OFF_BIO_BI_ITER_BI_SIZE, OFF_BIO_BI_NEXT,
        OFF_BIO_BI_OPF, OFF_BIO_BI_PRIVATE, OFF_BIO_BI_STATUS, OFF_BLK_FLUSH_QUEUE_FLUSH_PENDING_IDX,
        OFF_BLK_FLUSH_QUEUE_FLUSH_QUEUE, OFF_BLK_MQ_HW_CTX_FQ, OFF_BLKCG_CSS_CGROUP, OFF_BLKCG_GQ_BLKCG,
        OFF_CGROUP_KN, OFF_GENDISK_FIRST_MINOR, OFF_GENDISK_MAJOR, OFF_GENDISK_QUEUE, OFF_KERNFS_NODE_ID,
        OFF_REQUEST___DATA_LEN, OFF_REQUEST___SECTOR, OFF_REQUEST_BIO, OFF_REQUEST_CMD_FLAGS,
        OFF_REQUEST_FLUSH_LIST, OFF_REQUEST_MQ_HCTX, OFF_REQUEST_QUEUE_MQ_OPS, OFF_REQUEST_QUEUELIST,
        OFF_REQUEST_START_TIME_NS,
    },
    storage,
};

// include/linux/blk_types.h
const REQ_OP_MASK: u32 = 0xff;
const REQ_OP_FLUSH: u32 = 2;
const REQ_OP_DISCARD: u32 = 3;
const REQ_FUA: u32 = 1 << 17;
const REQ_PREFLUSH: u32 = 1 << 18;

// In `Bio::flags`, beside those that records have.
/// It was put in front of a request, so it is the first of those that the request has, and not the one that began it.
const IN_FRONT: u32 = 1 << 24;
/// It was cut off another one, which ends when this one has.
const CUT_OFF: u32 = 1 << 25;
/// It is the agent's own.
const IGNORED: u32 = 1 << 26;
/// The record was made; it is kept for the flush that may still follow.
const RECORDED: u32 = 1 << 27;

/// Bios of a request that are looked through for the one that began it.
const MOST_IN_FRONT: u32 = 16;

/// What is known of a bio.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Bio {
    queued_ns: u64,
    sector: u64,
    origin_cgroup_id: u64,
    charged_cgroup_id: u64,
    bytes: u32,
    dev: u32,
    tgid: u32,
    tid: u32,
    /// `BLOCK_*` and what is above.
    flags: u32,
    op: u32,
}

/// What is known of a request that the device has.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Request {
    /// Of the bio that began it; sector and bytes are the request's.
    bio: Bio,
    /// 0 while the device does not have it.
    issued_ns: u64,
    requeues: u32,
    bios: u32,
}

/// What was submitted and is not with a device yet, by the address of the `struct bio`; of devices without requests also
/// what is with them.
#[btf_map]
pub static BIOS: HashMap<u64, Bio, 1> = HashMap::new();

/// Requests that are with a device, by the address of the `struct request`.
#[btf_map]
pub static REQUESTS: HashMap<u64, Request, 1> = HashMap::new();

#[inline(always)]
fn key<M: Memory>(object: Object<M>) -> u64 {
    object.address() as u64
}

#[inline(always)]
fn remember_bio(key: u64, bio: Bio) {
    if BIOS.insert(key, bio, 0).is_err() {
        cpu::count_unstored(Family::Block);
    }
}

#[inline(always)]
fn find_bio(key: u64) -> Option<Bio> {
    // SAFETY: the map gave the pointer; the element is not freed while the program runs.
    BIOS.get_ptr(key).map(|bio| unsafe { bio.read() })
}

#[inline(always)]
fn forget_bio(key: u64) {
    // That there is none is fine.
    let _ = BIOS.remove(key);
}

#[inline(always)]
fn forget_request(key: u64) {
    // That there is none is fine.
    let _ = REQUESTS.remove(key);
}

/// Whether all that is submitted is recorded.
#[inline(always)]
fn is_all() -> bool {
    SELECT.get() & select::ALL != 0
}

/// `block_bio_queue(bio)`. Passes if the current thread is selected, or the cgroup that it is charged to.
#[inline(always)]
pub fn submitted<M: Memory>(args: Args) {
    let object = kernel::bio::<M>(args);
    let who = CurrentTask(storage::current_task());
    let thread = who.thread();
    let is_own = filter::is_self(thread);
    let charged = charged_cgroup(object);
    let is_wanted = filter::selects_current(thread)
        || is_all()
        || charged.is_some_and(|cgroup| !is_own && filter::selects_cgroup(cgroup));
    if !is_wanted {
        // What was at this address before.
        forget_bio(key(object));
        return;
    }
    let disk = kernel::disk_of_bio(object);
    let op = object.load::<u32>(&OFF_BIO_BI_OPF);
    let mut flags = BLOCK_HAS_QUEUED | op & BLOCK_KERNEL_FLAGS;
    // The idle task runs what an interrupt makes it run.
    if thread.tgid != 0 {
        flags |= BLOCK_HAS_ORIGIN;
        if who.0.is_kernel_thread() {
            flags |= BLOCK_KERNEL_THREAD;
        }
    }
    let charged_cgroup_id = charged.map_or(0, cgroup_id);
    if charged_cgroup_id != 0 {
        flags |= BLOCK_HAS_CHARGED;
    }
    if !has_requests(disk.follow(&OFF_GENDISK_QUEUE)) {
        flags |= BLOCK_BIO;
    }
    if is_own && !filter::selects_current(thread) {
        flags |= IGNORED;
    }
    let bio = Bio {
        queued_ns: now(),
        sector: object.load(&OFF_BIO_BI_ITER_BI_SECTOR),
        origin_cgroup_id: who.cgroup_id(),
        charged_cgroup_id,
        bytes: object.load(&OFF_BIO_BI_ITER_BI_SIZE),
        dev: device(disk),
        tgid: thread.tgid,
        tid: thread.tid,
        flags,
        op: op & REQ_OP_MASK,
    };
    remember_bio(key(object), bio);
}

/// `block_split(bio, sector)`: a part was cut off a bio that is too large for one request.
///
/// The block layer passes the part, whose `bi_private` is the rest. The device mapper passes the bio itself.
#[inline(always)]
pub fn split<M: Memory>(args: Args) {
    let object = kernel::bio::<M>(args);
    let rest = object.load::<u64>(&OFF_BIO_BI_PRIVATE);
    let Some(bio) = BIOS.get_ptr_mut(rest) else {
        if let Some(bio) = BIOS.get_ptr_mut(key(object)) {
            // SAFETY: the pointer is to a map element that only the submitter's steps change.
            unsafe { (*bio).flags |= BLOCK_SPLIT };
        }
        return;
    };
    // SAFETY: likewise.
    unsafe { (*bio).flags |= BLOCK_SPLIT };
    // SAFETY: likewise.
    let mut part = unsafe { bio.read() };
    part.flags |= CUT_OFF;
    part.sector = object.load(&OFF_BIO_BI_ITER_BI_SECTOR);
    part.bytes = object.load(&OFF_BIO_BI_ITER_BI_SIZE);
    remember_bio(key(object), part);
}

/// `block_bio_backmerge(bio)`: it was put behind a request.
#[inline(always)]
pub fn merged_behind<M: Memory>(args: Args) {
    let key = key(kernel::merged_bio::<M>(args));
    if let Some(bio) = find_bio(key) {
        forget_bio(key);
        emit_merge(bio, bio.sector, bio.bytes, MERGE_BACK);
    }
}

/// `block_bio_frontmerge(bio)`: it was put in front of a request.
#[inline(always)]
pub fn merged_in_front<M: Memory>(args: Args) {
    let Some(entry) = BIOS.get_ptr_mut(key(kernel::merged_bio::<M>(args))) else { return };
    // SAFETY: the pointer is to a map element that only the submitter's steps change.
    unsafe { (*entry).flags |= IN_FRONT };
    // SAFETY: likewise.
    let bio = unsafe { entry.read() };
    emit_merge(bio, bio.sector, bio.bytes, MERGE_FRONT);
}

/// `block_rq_merge(rq)`: a request was put behind another one, and is none any more.
#[inline(always)]
pub fn request_merged<M: Memory>(args: Args) {
    let request = kernel::request::<M>(args);
    if let Some(bio) = take_bio(request) {
        let (sector, bytes) = (request.load(&OFF_REQUEST___SECTOR), request.load(&OFF_REQUEST___DATA_LEN));
        emit_merge(bio, sector, bytes, MERGE_REQUEST);
    }
    forget_request(key(request));
}

#[inline(always)]
fn emit_merge(bio: Bio, sector: u64, bytes: u32, how: u16) {
    if bio.flags & IGNORED != 0 {
        return;
    }
    emit(CurrentTask::<Direct>::find(), now(), || BlockMerge {
        queued_ns: bio.queued_ns,
        sector,
        bytes: bytes.into(),
        origin_cgroup_id: bio.origin_cgroup_id,
        charged_cgroup_id: bio.charged_cgroup_id,
        dev: bio.dev,
        origin_tgid: bio.tgid,
        origin_tid: bio.tid,
        flags: recorded_flags(bio.flags),
        op: bio.op as u16,
        how,
        reserved: 0,
    });
}

/// `block_rq_issue(rq)`: the device gets it.
#[inline(always)]
pub fn issued<M: Memory>(args: Args) {
    let object = kernel::request::<M>(args);
    let key = key(object);
    let now = now();
    let flags = object.load::<u32>(&OFF_REQUEST_CMD_FLAGS);
    let op = flags & REQ_OP_MASK;
    let bio = if op == REQ_OP_FLUSH { None } else { take_bio(object) };
    if bio.is_none()
        && let Some(again) = REQUESTS.get_ptr_mut(key)
        // SAFETY: the pointer is to a map element; the request is with nobody else.
        && unsafe { (*again).issued_ns } == 0
    {
        // SAFETY: likewise.
        unsafe { (*again).issued_ns = now };
        return;
    }
    let bio = if op == REQ_OP_FLUSH { asked_for_flush(object) } else { bio };
    let is_wanted = match &bio {
        Some(bio) => bio.flags & IGNORED == 0,
        // Of a driver's own making, or submitted before there was a program to see it.
        None => is_all(),
    };
    if !is_wanted {
        forget_request(key);
        return;
    }
    let started_ns = object.load::<u64>(&OFF_REQUEST_START_TIME_NS);
    let unknown = Bio {
        queued_ns: started_ns,
        sector: 0,
        origin_cgroup_id: 0,
        charged_cgroup_id: 0,
        bytes: 0,
        dev: 0,
        tgid: 0,
        tid: 0,
        flags: if started_ns != 0 { BLOCK_HAS_QUEUED } else { 0 },
        op: 0,
    };
    let mut bio = bio.unwrap_or(unknown);
    bio.flags |= flags & BLOCK_KERNEL_FLAGS;
    bio.op = op;
    bio.dev = device(kernel::disk_of_request(object));
    bio.bytes = object.load(&OFF_REQUEST___DATA_LEN);
    bio.sector = object.load(&OFF_REQUEST___SECTOR);
    let mut bios = 0;
    if op == REQ_OP_FLUSH {
        bio.sector = 0;
        bio.flags &= !BLOCK_SPLIT;
        // The flush itself: the kernel notes when it decided on it.
        bio.queued_ns = started_ns;
    } else {
        bios = count_bios(object, op);
    }
    let request = Request { bio, issued_ns: now, requeues: 0, bios };
    if REQUESTS.insert(key, request, 0).is_err() {
        cpu::count_unstored(Family::Block);
    }
}

/// `block_rq_requeue(rq)`: the device gave it back.
#[inline(always)]
pub fn requeued<M: Memory>(args: Args) {
    if let Some(request) = REQUESTS.get_ptr_mut(key(kernel::request::<M>(args))) {
        // SAFETY: the pointer is to a map element; the request is with nobody else.
        unsafe {
            (*request).issued_ns = 0;
            (*request).requeues = (*request).requeues.wrapping_add(1);
        }
    }
}

/// `block_rq_complete(rq, status, bytes)`: the device has done so many bytes of it.
///
/// What goes through the flush machinery is completed twice: when its data are written, and when the flush behind them
/// is done, then with no bytes left. One that has no data is completed once, and the device never gets it.
#[inline(always)]
pub fn completed<M: Memory>(args: Args) {
    let object = args.object::<M>(0);
    let key = key(object);
    let (status, done) = (kernel::status(args), args.word(2) as u32);
    let Some(entry) = REQUESTS.get_ptr_mut(key) else {
        if let Some(bio) = take_bio(object) {
            emit_request(&Request { bio, issued_ns: 0, requeues: 0, bios: 1 }, status);
        } else if is_all() {
            cpu::count_unpaired(Family::Block);
        }
        return;
    };
    // SAFETY: the pointer is to a map element; the request is completed by one CPU at a time.
    let request = unsafe { entry.read() };
    if request.bio.flags & RECORDED != 0 {
        forget_request(key);
        // The request was used again, for what the device never got.
        if let Some(bio) = take_bio(object) {
            emit_request(&Request { bio, issued_ns: 0, requeues: 0, bios: 1 }, status);
        }
        return;
    }
    if done < object.load::<u32>(&OFF_REQUEST___DATA_LEN) {
        return;
    }
    emit_request(&request, status);
    if request.bio.op != REQ_OP_FLUSH && request.bio.flags & (REQ_PREFLUSH | REQ_FUA) != 0 {
        // SAFETY: likewise.
        unsafe { (*entry).bio.flags |= RECORDED };
    } else {
        forget_request(key);
    }
}

/// `block_bio_complete(queue, bio)`: what was submitted to a device without requests is done, or failed elsewhere before it
/// became a request.
#[inline(always)]
pub fn bio_completed<M: Memory>(args: Args) {
    let object = args.object::<M>(1);
    let key = key(object);
    let Some(bio) = find_bio(key) else {
        if is_all() && !has_requests(args.object::<M>(0)) {
            cpu::count_unpaired(Family::Block);
        }
        return;
    };
    forget_bio(key);
    if bio.flags & BLOCK_BIO != 0 && bio.flags & CUT_OFF == 0 {
        let status = object.load::<u8>(&OFF_BIO_BI_STATUS);
        // Such a device has it at once.
        emit_request(&Request { issued_ns: bio.queued_ns, bio, requeues: 0, bios: 1 }, status.into());
    }
}

#[inline(always)]
fn emit_request(request: &Request, status: u16) {
    let bio = &request.bio;
    let now = now();
    let is_short = bio.queued_ns != 0 && now.wrapping_sub(bio.queued_ns) < min_duration_ns(Family::Block);
    if bio.flags & IGNORED != 0 || is_short {
        return;
    }
    let issued = if request.issued_ns != 0 { BLOCK_HAS_ISSUED } else { 0 };
    emit(CurrentTask::<Direct>::find(), now, || BlockRequest {
        queued_ns: bio.queued_ns,
        issued_ns: request.issued_ns,
        sector: bio.sector,
        bytes: bio.bytes.into(),
        origin_cgroup_id: bio.origin_cgroup_id,
        charged_cgroup_id: bio.charged_cgroup_id,
        dev: bio.dev,
        origin_tgid: bio.tgid,
        origin_tid: bio.tid,
        flags: recorded_flags(bio.flags) | issued,
        op: bio.op as u16,
        status,
        requeues: request.requeues as u16,
        bios: request.bios as u16,
    });
}

#[inline(always)]
const fn recorded_flags(flags: u32) -> u32 {
    flags & !(IN_FRONT | CUT_OFF | IGNORED | RECORDED)
}

/// What is remembered of the bio that began a request. It and those that were put in front of it are forgotten.
#[inline(always)]
fn take_bio<M: Memory>(request: Object<M>) -> Option<Bio> {
    let mut at = request.load::<u64>(&OFF_REQUEST_BIO);
    let mut taken = None;
    let mut looked = 0;
    while looked < MOST_IN_FRONT && at != 0 {
        let Some(mut bio) = find_bio(at) else { break };
        forget_bio(at);
        // It may have been handed on by a device without requests.
        bio.flags &= !BLOCK_BIO;
        taken = Some(bio);
        if bio.flags & IN_FRONT == 0 {
            break;
        }
        at = next(at);
        looked += 1;
    }
    taken
}

/// Of how many bios the request consists. Discards are put together without a tracepoint that says so: those behind the
/// first are forgotten here.
#[inline(always)]
fn count_bios<M: Memory>(request: Object<M>, op: u32) -> u32 {
    let mut at = request.load::<u64>(&OFF_REQUEST_BIO);
    let mut count = 0;
    while count < u32::from(BLOCK_MOST_BIOS) && at != 0 {
        if op == REQ_OP_DISCARD {
            forget_bio(at);
        }
        count += 1;
        at = next(at);
    }
    count
}

#[inline(always)]
fn next(bio: u64) -> u64 {
    Object::<Probed>::new(bio as *const u8).load(&OFF_BIO_BI_NEXT)
}

/// What is remembered of the first of the requests for whose sake the kernel flushes the device's cache.
///
/// A flush is a request of the kernel's own making, of which there is one for each queue at a time. Those that wait for it
/// are in one of two lists, in the other one are those that wait for the next (block/blk-flush.c).
#[inline(always)]
fn asked_for_flush<M: Memory>(flush: Object<M>) -> Option<Bio> {
    let flush = Object::<Probed>::new(flush.address());
    let queue = flush.follow(&OFF_REQUEST_MQ_HCTX).follow(&OFF_BLK_MQ_HW_CTX_FQ);
    let running = u64::from(queue.load::<u8>(&OFF_BLK_FLUSH_QUEUE_FLUSH_PENDING_IDX) >> 1 & 1);
    // SAFETY: see `Memory::load`. A list's head is two pointers.
    let head = queue.member(&OFF_BLK_FLUSH_QUEUE_FLUSH_QUEUE) as u64 + running * 16;
    // SAFETY: see `Memory::load`.
    let first = unsafe { Probed::load::<u64>(head as *const u8) };
    if first == 0 || first == head {
        return None;
    }
    let within = match OFF_REQUEST_FLUSH_LIST.get() {
        ABSENT => OFF_REQUEST_QUEUELIST.get(),
        within => within,
    };
    let key = first.wrapping_sub(within);
    // It has its bio until the data are written.
    let bio = Object::<Probed>::new(key as *const u8).load::<u64>(&OFF_REQUEST_BIO);
    if bio != 0 {
        return find_bio(bio).map(|bio| Bio { flags: bio.flags & !BLOCK_BIO, ..bio });
    }
    // SAFETY: the pointer is to a map element.
    let mut bio = REQUESTS.get_ptr(key).map(|request| unsafe { (*request).bio })?;
    bio.flags &= !RECORDED;
    Some(bio)
}

/// The cgroup that a bio is charged to.
#[inline(always)]
fn charged_cgroup<M: Memory>(bio: Object<M>) -> Option<Object<M>> {
    let path = [&OFF_BIO_BI_BLKG, &OFF_BLKCG_GQ_BLKCG, &OFF_BLKCG_CSS_CGROUP];
    if path.iter().any(|offset| offset.get() == ABSENT) {
        return None;
    }
    Some(bio.follow(&OFF_BIO_BI_BLKG).follow(&OFF_BLKCG_GQ_BLKCG).follow(&OFF_BLKCG_CSS_CGROUP))
}

#[inline(always)]
fn cgroup_id<M: Memory>(cgroup: Object<M>) -> u64 {
    cgroup.follow(&OFF_CGROUP_KN).load(&OFF_KERNFS_NODE_ID)
}

/// Major and minor number of a disk, as the kernel keeps them. 0, which no disk has, if it is none.
#[inline(always)]
pub fn device<M: Memory>(disk: Object<M>) -> u32 {
    disk.load::<u32>(&OFF_GENDISK_MAJOR) << 20 | disk.load::<u32>(&OFF_GENDISK_FIRST_MINOR)
}

#[inline(always)]
fn has_requests<M: Memory>(queue: Object<M>) -> bool {
    queue.load::<u64>(&OFF_REQUEST_QUEUE_MQ_OPS) != 0
}
