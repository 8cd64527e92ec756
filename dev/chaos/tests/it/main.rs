//! A short run, of every kind of fault that this machine allows once, and of some again where it does not allow all.

use std::process::Command;

#[test]
fn every_kind_of_fault_once_loses_nothing_and_breaks_no_order() {
    let run = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .envs([("CHAOS_MINUTES", "10"), ("CHAOS_FAULTS", "38"), ("CHAOS_SEED", "17")])
        .output()
        .expect("the chaos program starts");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(said.contains("38 faults"), "{said}");
}
