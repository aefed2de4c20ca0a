//! The soak, for some seconds: servers die, and every batch is accounted for.

use std::time::Duration;

use crate::support::soak::{Soak, run};

crate::trials!(servers_that_die);

fn servers_that_die() {
    // So few that the spill's queue bridges 9 s in which its thread does not come to run, and so many that the other queue is
    // full in less than a second.
    let outcome = run(&Soak {
        rate: 10_000,
        length: Duration::from_secs(15),
        every: Duration::from_secs(5),
        away: Duration::from_millis(500),
        queue_bytes: 1 << 20,
    });
    let failed: Vec<_> = outcome.books.iter().filter(|check| !check.holds).collect();
    assert!(failed.is_empty(), "{failed:#?}\n{:#?}\n{}", outcome.figures, outcome.fact);
}
