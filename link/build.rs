//! Has the linker lay the functions of frequent commands side by side: fewer pages are read and mapped at each start.

fn main() {
    println!("cargo::rerun-if-changed=link/order.ld");
    if std::env::var("PROFILE").is_ok_and(|p| p == "release") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo tells where the package is");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/link/order.ld");
    }
}
