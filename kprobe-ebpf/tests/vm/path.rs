//! Paths on file systems that a machine need not have.

use crate::support::paths::on_every_rung;

crate::trials!(file_systems_with_ways_of_their_own);

fn file_systems_with_ways_of_their_own() {
    on_every_rung("path-file-systems", 12);
}
