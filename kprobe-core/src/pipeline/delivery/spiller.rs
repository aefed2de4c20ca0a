use std::{
    collections::{BTreeSet, VecDeque},
    convert::Infallible,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Select, Sender, TrySendError, after, never};

use super::{
    Arrival, Given, Message, Parcel, Said, Trouble,
    books::{Books, reason},
    outlet::Ears,
};
use crate::{
    pipeline::{Batch, SinkError},
    spill::{AppendError, Position, Spill},
};

/// After the disk refused to be read, how long until it is asked again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Between a queue and a sink: what the sink does not take now waits on disk, in order.
///
/// As long as the sink keeps up nothing is written. When it does not, everything under way is put on disk first, then
/// what comes, so that the order on disk is that of the stream; and until the disk has been read to its end nothing passes by it.
pub(super) struct Spiller {
    at: usize,
    name: String,
    spill: Spill,
    books: Books,
    ears: Ears,
    /// Most bytes that may be under way without being on disk.
    most_flying: usize,
    flying: VecDeque<Flight>,
    flying_bytes: usize,
    /// Number of the next parcel.
    next: u64,
    /// Read from disk, and next to go out.
    ready: Option<(Batch, Position)>,
    /// The pipeline asked for a flush: to be passed on when the disk is empty.
    flushing: bool,
    /// Records that were dropped since the last parcel.
    missed: u64,
    /// Of the damaged batches, the records that are in the books.
    lost: u64,
    /// Of the damages, those that were told.
    damages: usize,
    /// Why the disk took no batch the last time.
    refused_for: &'static str,
    /// Troubles of the disk that were told, until it goes well again.
    told: BTreeSet<&'static str>,
    /// Fires when the disk may be read again.
    pause: Option<Receiver<Instant>>,
}

/// A batch that was sent and has not arrived yet.
struct Flight {
    number: u64,
    records: u64,
    place: Place,
}

enum Place {
    /// It is nowhere else.
    Memory(Batch),
    /// Up to here it is on disk.
    Disk(Position),
}

/// What the channels said.
enum Heard {
    Message(Message),
    Arrived,
    Abandoned,
    /// The pipeline was dropped.
    Left,
    Sent,
    ReadAgain,
}

/// What a spiller is connected to.
pub(super) struct Ends {
    pub(super) input: Receiver<Message>,
    /// Short: what is in it can be on its way from disk.
    pub(super) output: Sender<Message>,
    /// Closed when the worker has ended.
    pub(super) arrived: Receiver<Arrival>,
    /// Closed when nobody waits for the sink any more.
    pub(super) abandoned: Receiver<Infallible>,
}

impl Spiller {
    pub(super) fn new(
        at: usize,
        name: String,
        spill: Spill,
        books: Books,
        ears: Ears,
        most_flying: usize,
    ) -> Self {
        let spiller = Self {
            at,
            name,
            spill,
            books,
            ears,
            most_flying,
            flying: VecDeque::new(),
            flying_bytes: 0,
            next: 0,
            ready: None,
            flushing: false,
            missed: 0,
            lost: 0,
            damages: 0,
            refused_for: reason::SPILL_IO,
            told: BTreeSet::new(),
            pause: None,
        };
        let recovered = spiller.spill.recovered();
        let damage: Vec<_> = recovered.damage.iter().map(ToString::to_string).collect();
        spiller.books.entries().recover(recovered.held.records);
        damage.into_iter().for_each(|damage| spiller.say(damage));
        spiller.note_kept();
        spiller
    }

    pub(super) fn run(mut self, ends: Ends) {
        let over = loop {
            self.read();
            match self.hear(&ends) {
                Heard::Message(Message::Parcel(parcel)) => self.take(&parcel, &ends.output),
                Heard::Message(Message::Flush { missed }) => {
                    self.missed += missed;
                    self.flushing = true;
                }
                Heard::Message(message @ Message::Finish(_)) => {
                    // What the worker still has it deals with before.
                    let _ended = ends.output.send(message);
                    break Said::Finished;
                }
                Heard::Abandoned => {
                    self.settle();
                    self.keep_waiting(&ends.input);
                    break Said::Kept;
                }
                Heard::Left => {
                    self.settle();
                    self.keep_waiting(&ends.input);
                    break Said::Finished;
                }
                Heard::Arrived | Heard::Sent => {}
                Heard::ReadAgain => self.pause = None,
            }
        };
        // The worker ends now, unless its sink hangs.
        if over == Said::Finished {
            let Ends { output, arrived, .. } = ends;
            drop(output);
            arrived.iter().for_each(|arrival| self.note(arrival));
        }
        if let Err(error) = self.spill.sync() {
            self.trouble("sync", error);
        }
        self.note_kept();
        // Whoever is told finds the directory free.
        let Self { at, ears, spill, .. } = self;
        drop(spill);
        let _unheard = ears.reports.send((at, over));
    }

    /// Waits until something can be done.
    fn hear(&mut self, ends: &Ends) -> Heard {
        let pause = self.pause.clone().unwrap_or_else(never);
        let sends = self.ready.is_some() || self.is_flush_due();
        let mut select = Select::new();
        let input = select.recv(&ends.input);
        let arrived = select.recv(&ends.arrived);
        let abandoned = select.recv(&ends.abandoned);
        let paused = select.recv(&pause);
        let output = if sends { select.send(&ends.output) } else { usize::MAX };
        let operation = select.select();
        match operation.index() {
            at if at == input => match operation.recv(&ends.input) {
                Ok(message) => Heard::Message(message),
                Err(_) => Heard::Left,
            },
            at if at == arrived => match operation.recv(&ends.arrived) {
                Ok(arrival) => {
                    self.note(arrival);
                    Heard::Arrived
                }
                // It ends after `Finish` only, or by a bug that the balance shows.
                Err(_) => Heard::Left,
            },
            at if at == abandoned => {
                let _closed = operation.recv(&ends.abandoned);
                Heard::Abandoned
            }
            at if at == paused => {
                let _now = operation.recv(&pause);
                Heard::ReadAgain
            }
            _ => {
                debug_assert_eq!(operation.index(), output);
                let message = match self.ready.take() {
                    Some((batch, position)) => {
                        // On disk it is not written down how far the source was.
                        let times = batch.records().flatten().map(|record| record.header().ktime_ns);
                        let given = Given { records: batch.count(), until_ns: times.max().unwrap_or(0) };
                        Message::Parcel(self.parcel(batch, given, Place::Disk(position)))
                    }
                    None => {
                        self.flushing = false;
                        Message::Flush { missed: std::mem::take(&mut self.missed) }
                    }
                };
                let _ended = operation.send(&ends.output, message);
                Heard::Sent
            }
        }
    }

    /// A batch came: past the disk if nothing is there, the sink has room, and not too much is under way.
    fn take(&mut self, parcel: &Parcel, output: &Sender<Message>) {
        self.missed += parcel.missed;
        let cost = parcel.batch.cost();
        let keeps_up = self.ready.is_none()
            && self.spill.unread().batches == 0
            && self.flying_bytes + cost <= self.most_flying
            && !self.is_over();
        if keeps_up && !output.is_full() {
            let given = Given { records: parcel.records, until_ns: parcel.until_ns };
            let sent = self.parcel(parcel.batch.clone(), given, Place::Memory(parcel.batch.clone()));
            // Only this thread sends, so there is room.
            match output.try_send(Message::Parcel(sent)) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(_)) => drop(self.flying.pop_back()),
            }
        }
        self.put_flying();
        if let Err(reason) = self.append(&parcel.batch) {
            self.missed += parcel.records;
            self.books.entries().refuse(parcel.records, reason);
        }
        self.note_kept();
    }

    fn parcel(&mut self, batch: Batch, given: Given, place: Place) -> Parcel {
        let Given { records, until_ns } = given;
        let number = self.next;
        self.next += 1;
        if matches!(place, Place::Memory(_)) {
            self.flying_bytes += batch.cost();
        }
        self.flying.push_back(Flight { number, records, place });
        let missed = std::mem::take(&mut self.missed);
        Parcel { batch, records, until_ns, missed, _permit: None, number }
    }

    fn note(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::UpTo(number) => self.acknowledge(number),
            Arrival::Flushed => {
                // What the sink will not get any more is to be on disk before the books are drawn up.
                if self.is_over() {
                    self.settle();
                }
                let _unheard = self.ears.reports.send((self.at, Said::Flushed));
            }
        }
    }

    /// Everything up to this number has arrived.
    fn acknowledge(&mut self, number: u64) {
        let mut to = None;
        while self.flying.front().is_some_and(|flight| flight.number <= number)
            && let Some(flight) = self.flying.pop_front()
        {
            match flight.place {
                Place::Memory(batch) => self.flying_bytes -= batch.cost(),
                Place::Disk(position) => to = Some(position),
            }
        }
        if let Some(to) = to {
            match self.spill.ack(to) {
                Ok(()) => drop(self.told.remove("ack")),
                Err(error) => self.trouble("ack", error),
            }
            self.note_kept();
        }
    }

    /// Puts what is under way and in memory alone on disk, in front of what comes next.
    fn put_flying(&mut self) {
        // Those for which the disk had no room then are not put behind what came later.
        if self.ready.is_some() || self.spill.unread().batches > 0 {
            return;
        }
        let mut flying = std::mem::take(&mut self.flying);
        for flight in &mut flying {
            let Place::Memory(batch) = &flight.place else { continue };
            // It is not read again while this process lives.
            match self.append(batch).and_then(|()| self.spill.next().map(drop).map_err(|_| reason::SPILL_IO))
            {
                Ok(()) => flight.place = Place::Disk(self.spill.position()),
                // They are under way, and may arrive yet.
                Err(_) => break,
            }
        }
        self.flying_bytes = flying.iter().map(|flight| flight.place.bytes()).sum();
        self.flying = flying;
    }

    fn append(&mut self, batch: &Batch) -> Result<(), &'static str> {
        match self.spill.append(batch) {
            Ok(()) => {
                self.told.clear();
                Ok(())
            }
            Err(error) => {
                let reason = match error {
                    AppendError::Full { .. } | AppendError::TooLarge { .. } => reason::SPILL_FULL,
                    _ => reason::SPILL_IO,
                };
                self.trouble(reason, error);
                self.refused_for = reason;
                Err(reason)
            }
        }
    }

    /// Reads ahead, one batch.
    fn read(&mut self) {
        if self.ready.is_some() || self.pause.is_some() || self.is_over() {
            return;
        }
        match self.spill.next() {
            Ok(batch) => self.ready = batch.map(|batch| (batch, self.spill.position())),
            Err(error) => {
                self.trouble("read", error);
                self.pause = Some(after(READ_AGAIN));
            }
        }
        self.note_damage();
    }

    /// Batches that could not be read are no more.
    fn note_damage(&mut self) {
        let lost = self.spill.lost().records;
        if lost > self.lost {
            self.books.entries().refuse(lost - self.lost, reason::SPILL_DAMAGED);
            self.missed += lost - self.lost;
            self.lost = lost;
        }
        let damage: Vec<_> = self.spill.damage()[self.damages..].iter().map(ToString::to_string).collect();
        self.damages += damage.len();
        damage.into_iter().for_each(|damage| self.say(damage));
    }

    /// The sink is to flush when it has got everything, or will not get it any more.
    fn is_flush_due(&self) -> bool {
        let is_empty = self.ready.is_none() && self.spill.unread().batches == 0;
        self.flushing && (is_empty || self.is_over())
    }

    /// Nothing more goes to the sink: whatever is not on disk is put there.
    fn settle(&mut self) {
        self.books.entries().over.get_or_insert(reason::SHUTDOWN);
        self.put_flying();
        for flight in &mut self.flying {
            if matches!(flight.place, Place::Memory(_)) {
                // The disk did not take it when it was its turn.
                self.books.entries().lose(flight.records, self.refused_for);
            }
        }
        self.flying.retain(|flight| matches!(flight.place, Place::Disk(_)));
        self.flying_bytes = 0;
        self.note_kept();
    }

    /// Puts on disk what has not been looked at.
    fn keep_waiting(&mut self, input: &Receiver<Message>) {
        for message in input.try_iter() {
            if let Message::Parcel(parcel) = message
                && let Err(reason) = self.append(&parcel.batch)
            {
                self.books.entries().refuse(parcel.records, reason);
            }
        }
        self.note_kept();
    }

    fn is_over(&self) -> bool {
        self.books.entries().over.is_some()
    }

    fn note_kept(&self) {
        self.books.entries().keep(self.spill.held().records, self.spill.bytes());
    }

    /// Each is told once, until the disk takes something again.
    fn trouble(&mut self, what: &'static str, error: impl std::error::Error + Send + Sync + 'static) {
        if self.told.insert(what) {
            self.tell(SinkError::lossy(error));
        }
    }

    fn say(&self, text: String) {
        self.tell(SinkError::lossy(text));
    }

    fn tell(&self, error: SinkError) {
        let _unheard = self.ears.troubles.try_send(Trouble { sink: self.name.clone(), error });
    }
}

impl Place {
    /// Bytes that are in memory for its sake.
    fn bytes(&self) -> usize {
        match self {
            Self::Memory(batch) => batch.cost(),
            Self::Disk(_) => 0,
        }
    }
}
