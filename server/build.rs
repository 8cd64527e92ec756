//! Tells cargo what a build depends on.

fn main() {
    // `migrate!` embeds the folder, and a macro cannot say so itself.
    println!("cargo::rerun-if-changed=../migrations");
}
