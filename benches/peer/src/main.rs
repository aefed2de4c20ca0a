//! See `peer.c`: this gives it libbpf, a `main`, and what makes lines of JSON.
mod lines;

use std::ffi::{CString, c_char, c_int};

unsafe extern "C" {
    fn peer_main(argc: c_int, argv: *const *const c_char) -> c_int;
}

fn main() {
    let args: Vec<CString> = std::env::args().map(|arg| CString::new(arg).expect("no zero byte")).collect();
    let pointers: Vec<*const c_char> = args.iter().map(|arg| arg.as_ptr()).collect();
    // SAFETY: `argc` pointers to strings that outlive the call.
    std::process::exit(unsafe { peer_main(pointers.len() as c_int, pointers.as_ptr()) });
}
