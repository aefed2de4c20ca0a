//! Runs contestants in turn and keeps the rounds in which nobody else used the cores.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{machine::Watch, stats::Spread};

/// Share of the two cores that others may use during a turn. /proc/stat counts ticks of 10 ms, so a short turn needs
/// room for one of them.
const FOREIGN: f64 = 0.03;
/// How long it looks whether the machine has become quiet.
const GLANCE: Duration = Duration::from_millis(500);
/// How long one test may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(1800);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Turns of each contestant that count.
    pub(crate) alternations: usize,
    /// Turns are a tenth as long, and disturbed ones count.
    pub(crate) quick: bool,
}

/// Rounds that count: in each, all contestants were measured one after the other.
#[derive(Debug)]
pub(crate) struct Rounds<T, const N: usize> {
    pub(crate) turns: Vec<[T; N]>,
    /// Rounds thrown away because others used the cores.
    pub(crate) disturbed: usize,
    /// Rounds thrown away because a turn in them was not valid.
    pub(crate) invalid: usize,
}

/// The turns of two contestants: element i of each was measured one after the other.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    pub(crate) ours: Vec<T>,
    pub(crate) theirs: Vec<T>,
    /// Pairs thrown away because others used the cores.
    pub(crate) disturbed: usize,
}

impl Effort {
    /// `full` as it is, or a tenth of it for a smoke run.
    pub(crate) fn scale(&self, full: u32) -> u32 {
        if self.quick { full / 10 } else { full }
    }

    /// Runs contestants 0, 1, ... N-1, 0, 1, ... until enough rounds were undisturbed. `turn` watches the stretch of its
    /// time that matters, and gives nothing if its figure is not valid.
    pub(crate) fn rounds<T, const N: usize>(
        &self,
        mut turn: impl FnMut(usize, &mut Watch) -> Result<Option<T>>,
    ) -> Result<Rounds<T, N>> {
        let mut rounds = Rounds { turns: Vec::new(), disturbed: 0, invalid: 0 };
        // One round to warm up, thrown away.
        for contestant in 0..N {
            turn(contestant, &mut Watch::default())?;
        }
        let began = Instant::now();
        while rounds.turns.len() < self.alternations {
            let (disturbed, invalid) = (rounds.disturbed, rounds.invalid);
            ensure!(began.elapsed() < PATIENCE, "no end: {disturbed} rounds disturbed, {invalid} invalid");
            let mut watch = Watch::default();
            let round: Vec<Option<T>> = (0..N).map(|at| turn(at, &mut watch)).collect::<Result<_>>()?;
            if watch.foreign_share() > FOREIGN {
                rounds.disturbed += 1;
                if !self.quick {
                    wait_for_quiet(began)?;
                    continue;
                }
            }
            let round: Option<Vec<T>> = round.into_iter().collect();
            match round.and_then(|round| round.try_into().ok()) {
                Some(round) => rounds.turns.push(round),
                None => rounds.invalid += 1,
            }
        }
        Ok(rounds)
    }

    /// Runs A, B, A, B, ... `run(true)` is ours. `children` are the processes that belong to the measurement.
    pub(crate) fn alternate<T>(
        &self,
        children: &[u32],
        mut run: impl FnMut(bool) -> Result<T>,
    ) -> Result<Turns<T>> {
        let rounds: Rounds<T, 2> =
            self.rounds(|contestant, watch| watch.over(children, || run(contestant == 0)).map(Some))?;
        let disturbed = rounds.disturbed;
        let (ours, theirs) = rounds.turns.into_iter().map(|[ours, theirs]| (ours, theirs)).unzip();
        Ok(Turns { ours, theirs, disturbed })
    }
}

impl<const N: usize> Rounds<f64, N> {
    /// Makes one round of `tries`: of each contestant the least figure in them.
    pub(crate) fn fastest_of(self, tries: usize) -> Self {
        let fastest = |round: &[[f64; N]]| {
            round
                .iter()
                .fold([f64::INFINITY; N], |least, next| std::array::from_fn(|at| least[at].min(next[at])))
        };
        Self { turns: self.turns.chunks(tries).map(fastest).collect(), ..self }
    }
}

impl<T, const N: usize> Rounds<T, N> {
    /// A figure of each round.
    pub(crate) fn spread(&self, figure: impl FnMut(&[T; N]) -> f64) -> Option<Spread> {
        Spread::of(self.turns.iter().map(figure))
    }
}

/// Waits until the cores are nearly unused, unless that was waited for too long since `began`.
fn wait_for_quiet(began: Instant) -> Result<()> {
    loop {
        ensure!(
            began.elapsed() < PATIENCE,
            "the machine is too busy to measure: others used more than 3 % of the cores"
        );
        let mut watch = Watch::default();
        watch.over(&[], || {
            thread::sleep(GLANCE);
            Ok(())
        })?;
        if watch.foreign_share() <= FOREIGN {
            return Ok(());
        }
    }
}
