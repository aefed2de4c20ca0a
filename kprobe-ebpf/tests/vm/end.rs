//! I11: a recorder that is killed leaves nothing in the kernel.

use super::system::all;
use crate::support::{child::Workload, kernel::BpfObjects, workload::wait};

crate::trials!(killed);

/// The workload: records the machine until it is killed.
#[expect(clippy::print_stdout, reason = "a workload reports on its standard output")]
pub fn record() {
    let recorder = all().attach().unwrap();
    println!("recording");
    wait();
    drop(recorder);
}

fn killed() {
    let mut recorder = Workload::start("record-until-killed");
    assert_eq!(recorder.line(), "recording");
    let objects = BpfObjects::of_process(recorder.tgid());
    assert!(
        objects.programs.len() >= 8 && objects.links.len() >= 8 && objects.maps.len() >= 8,
        "{objects:?}"
    );
    assert_eq!(objects.alive(), objects);
    recorder.child.kill().unwrap();
    recorder.wait();
    objects.wait_until_gone();
}
