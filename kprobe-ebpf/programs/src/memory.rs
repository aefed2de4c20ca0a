//! Reading kernel memory, in the two ways there are.

use core::{marker::PhantomData, ptr};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;

use crate::{frozen::Frozen, offsets::ABSENT};

/// How a program may read kernel memory.
pub trait Memory: Copy {
    /// Whether a read is only a load, and no call.
    const IS_DIRECT: bool;

    /// Reads an integer; what cannot be read is 0.
    ///
    /// # Safety
    ///
    /// None that the compiler could rely on or the caller could break: the verifier refuses a program that reads
    /// directly where it may not, and the kernel handles the faults. Unsafe because the address is no Rust object.
    unsafe fn load<T: Copy + Default>(from: *const u8) -> T;
}

/// Loads through pointers whose type the verifier knows (BTF): one instruction.
#[cfg(not(feature = "before-6.1"))]
#[derive(Clone, Copy)]
pub struct Direct;

/// Before 6.1 also programs whose pointers have types read by the helper: the current task, whose helper gives its address
/// there, has none.
#[cfg(feature = "before-6.1")]
pub type Direct = Probed;

/// The helper `bpf_probe_read_kernel`: any address, at the price of a call.
#[derive(Clone, Copy)]
pub struct Probed;

#[cfg(not(feature = "before-6.1"))]
impl Memory for Direct {
    const IS_DIRECT: bool = true;

    #[inline(always)]
    unsafe fn load<T: Copy + Default>(from: *const u8) -> T {
        // SAFETY: see the trait. Volatile, so that the compiler does not join two loads into one that crosses members,
        // which the verifier refuses.
        unsafe { ptr::read_volatile(from.cast()) }
    }
}

impl Memory for Probed {
    const IS_DIRECT: bool = false;

    /// Without a branch, of which there is no need: what cannot be read, the helper itself sets to 0. After many of them older
    /// verifiers would look at every combination of what was read and what was not.
    #[inline(always)]
    unsafe fn load<T: Copy + Default>(from: *const u8) -> T {
        let mut value = core::mem::MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes as many bytes, and no more.
        unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from.cast()) };
        // SAFETY: the helper has written all of them. A `T` is an integer or an array of integers, or a pointer.
        unsafe { value.assume_init() }
    }
}

/// An instance of a kernel struct.
#[derive(Clone, Copy)]
pub struct Object<M>(*const u8, PhantomData<M>);

impl<M: Memory> Object<M> {
    /// None: what is read of it is 0.
    pub const NONE: Self = Self(ptr::null(), PhantomData);

    /// The struct at an address that the kernel gave.
    #[inline(always)]
    pub fn new<T>(address: *const T) -> Self {
        Self(address.cast(), PhantomData)
    }

    /// Its address.
    #[inline(always)]
    pub fn address(&self) -> *const u8 {
        self.0
    }

    /// The address of a member.
    #[inline(always)]
    pub fn member(&self, offset: &Frozen<u64>) -> *const u8 {
        self.0.wrapping_add(offset.get() as usize)
    }

    /// The value of an integer member.
    #[inline(always)]
    pub fn load<T: Copy + Default>(&self, offset: &Frozen<u64>) -> T {
        // SAFETY: see `Memory::load`: the verifier and the kernel's fault handling stand behind it.
        unsafe { M::load(self.member(offset)) }
    }

    /// As `load`, for a member that not every kernel has.
    #[inline(always)]
    pub fn load_if_present<T: Copy + Default>(&self, offset: &Frozen<u64>) -> Option<T> {
        // The verifier follows only the branch that is taken, so it never sees an absent offset used.
        let offset = offset.get();
        if offset == ABSENT {
            return None;
        }
        // SAFETY: as in `load`.
        Some(unsafe { M::load(self.0.wrapping_add(offset as usize)) })
    }

    /// The struct that a pointer member points to.
    #[inline(always)]
    pub fn follow(&self, offset: &Frozen<u64>) -> Self {
        // Loaded as a pointer, not as an integer, so that the type that the verifier knows of it survives.
        // SAFETY: as in `load`.
        Self::new(unsafe { M::load::<Address>(self.member(offset)) }.0)
    }
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Address(*const u8);

impl Default for Address {
    #[inline(always)]
    fn default() -> Self {
        Self(ptr::null())
    }
}

/// A string of the kernel, cut to 15 bytes. All bytes behind its end are 0, whatever the kernel has there.
#[inline(always)]
pub fn text(from: *const u8) -> [u8; 16] {
    // As words, because the compiler would call `memset` for the bytes.
    let mut text = [0_u64; 2];
    // SAFETY: the helper writes at most 16 bytes to `text`, handles faults, and stops at the terminating zero.
    unsafe { bpf_probe_read_kernel_str(text.as_mut_ptr().cast(), 16, from.cast()) };
    zerocopy::transmute!(text)
}
