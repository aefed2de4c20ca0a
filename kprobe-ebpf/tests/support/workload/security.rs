//! Threads whose capabilities are checked.

use super::sys;

/// Changes its root to what it is: as root three times, without any capability three times, and once in a user namespace of
/// its own. Says whether it could have one.
pub fn capabilities() {
    let chroot = || sys::call(libc::SYS_chroot, [c"/".as_ptr() as i64, 0, 0, 0, 0, 0]);
    assert_eq!([chroot(), chroot(), chroot()], [0; 3]);
    // _LINUX_CAPABILITY_VERSION_3, this thread; none effective, permitted or inheritable.
    let (header, none) = ([0x2008_0522_u32, 0], [0_u32; 6]);
    sys::must(libc::SYS_capset, [header.as_ptr() as i64, none.as_ptr() as i64, 0, 0, 0, 0]);
    assert_eq!([chroot(), chroot(), chroot()], [-i64::from(libc::EPERM); 3]);
    let own = sys::call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0, 0, 0]) == 0;
    if own {
        assert_eq!(chroot(), 0);
    }
    println!("{}", u8::from(own));
}
