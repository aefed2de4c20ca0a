use std::{
    collections::VecDeque,
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::answer::Answers;

/// Connections at a time; those beyond wait in the kernel, which bounds them.
pub(super) const MOST: usize = 128;
/// Bytes that hyper keeps of a request; a longer head is refused (431).
const MOST_BYTES: usize = 16 << 10;
/// From connect to the last byte of the answer, beside what the pipeline may take.
const LONGEST: Duration = Duration::from_secs(10);
/// When all places are taken, who has been silent for so long makes room.
const GRACE: Duration = Duration::from_millis(250);
/// Before the next try when the system accepts nothing, for want of descriptors perhaps.
const PAUSE: Duration = Duration::from_millis(100);

/// Who is connected, oldest first.
#[derive(Debug, Default)]
struct Crowd {
    guests: VecDeque<Guest>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Guest {
    since: Instant,
    /// The head of its request has come.
    asked: Arc<AtomicBool>,
    task: AbortHandle,
}

/// Until it is told to stop.
pub(super) async fn serve(listener: TcpListener, answers: Answers, mut stop: oneshot::Receiver<Infallible>) {
    let answers = Arc::new(answers);
    let mut crowd = Crowd::default();
    loop {
        let full = crowd.guests.len() >= MOST;
        let silent = if full { crowd.silent_until() } else { None };
        tokio::select! {
            _ = &mut stop => return,
            Some(_) = crowd.tasks.join_next() => crowd.guests.retain(|guest| !guest.task.is_finished()),
            () = at(silent) => crowd.turn_out(),
            accepted = listener.accept(), if !full => match accepted {
                Ok((stream, _)) => crowd.admit(stream, &answers),
                Err(_) => sleep(PAUSE).await,
            },
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

impl Crowd {
    fn admit(&mut self, stream: TcpStream, answers: &Arc<Answers>) {
        let asked = Arc::new(AtomicBool::new(false));
        let (says, answers) = (Arc::clone(&asked), Arc::clone(answers));
        let longest = LONGEST + answers.within;
        let connection = async move {
            let answer = service_fn(|request| {
                says.store(true, Ordering::Relaxed);
                let answers = Arc::clone(&answers);
                async move { Ok::<_, Infallible>(answers.answer(request).await) }
            });
            let serving = http1::Builder::new()
                .keep_alive(false)
                .max_buf_size(MOST_BYTES)
                // One clock for everything is enough.
                .header_read_timeout(None)
                .serve_connection(TokioIo::new(stream), answer);
            // Who has gone, was too slow or spoke nonsense has nobody to tell it.
            let _done = timeout(longest, serving).await;
        };
        let task = self.tasks.spawn(connection);
        self.guests.push_back(Guest { since: Instant::now(), asked, task });
    }

    fn first_silent(&self) -> Option<usize> {
        self.guests.iter().position(|guest| !guest.asked.load(Ordering::Relaxed))
    }

    /// When the first that has asked nothing is to make room.
    fn silent_until(&self) -> Option<Instant> {
        self.first_silent().map(|at| self.guests[at].since + GRACE)
    }

    /// Unless it has asked in the meantime: the next has its own time.
    fn turn_out(&mut self) {
        let late = self.first_silent().filter(|at| self.guests[*at].since + GRACE <= Instant::now());
        if let Some(guest) = late.and_then(|at| self.guests.remove(at)) {
            guest.task.abort();
        }
    }
}
