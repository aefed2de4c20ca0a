//! Compiles the peer's C.
fn main() {
    let include = std::env::var("DEP_BPF_INCLUDE").expect("libbpf-sys says where its headers are");
    cc::Build::new().file("peer.c").include(include).opt_level(2).warnings(true).compile("peer");
    println!("cargo::rerun-if-changed=peer.c");
}
