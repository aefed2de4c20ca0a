use std::{
    convert::Infallible,
    fmt, io,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use kprobe_core::pipeline::{Finished, Monitor};
use tokio::{runtime, sync::oneshot};

use super::{answer::Answers, crowd, scrape::Scrape};

/// What to serve, and to whom.
#[must_use = "it serves nothing before it is started"]
pub struct Endpoint {
    monitor: Monitor,
    within: Duration,
    remote: bool,
    hook: Box<dyn FnMut() + Send>,
}

/// Serves until it is dropped. Then the port is free; a look at a pipeline that is stuck is not waited for.
#[derive(Debug)]
#[must_use = "it serves until it is dropped"]
pub struct Server {
    address: SocketAddr,
    scrape: Arc<Scrape>,
    /// Gone when it is time to end.
    alive: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

/// Nothing is served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Others than this machine could ask.
    #[error(
        "{0} can be reached from other machines, and whoever reaches it may ask, without a password: take a loopback \
         address, such as 127.0.0.1:{port} or [::1]:{port}, or allow it (Endpoint::allow_remote)",
        port = .0.port()
    )]
    NotLoopback(SocketAddr),
    /// It cannot listen there.
    #[error("cannot listen on {address}: {error}{}", hint(.error))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The system gives no thread, or nothing to wait for connections with.
    #[error("cannot begin to serve: {0}")]
    Begin(#[source] io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program listens there, perhaps another agent: take another port, or 0 for any that is free"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege: take a higher one",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

/// How long the end waits for what is being asked of the pipeline.
const LAST_LOOK: Duration = Duration::from_millis(100);
/// One for looks and one for scrapes, which also call what the user wants to be called.
const LOOKERS: usize = 2;

impl Endpoint {
    /// Serves what is to be seen of this pipeline.
    pub fn new(monitor: Monitor) -> Self {
        Self { monitor, within: Duration::from_secs(1), remote: false, hook: Box::new(|| ()) }
    }

    /// How long the pipeline has for an answer before it is taken for stuck; 1 s unless said otherwise. Longer than a step
    /// takes: see [`PipelineBuilder::wait`](kprobe_core::pipeline::PipelineBuilder::wait).
    pub fn answer_within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// Calls this before each scrape, for metrics of the program's own: `counter!`, `gauge!` and `describe_*!` of the crate
    /// `metrics` (or of [`facade`](crate::metrics::facade)) go to the same page there. One that panics fails the scrape.
    pub fn before_each_scrape(self, hook: impl FnMut() + Send + 'static) -> Self {
        Self { hook: Box::new(hook), ..self }
    }

    /// Also listens where other machines can ask. Nobody is asked for a password.
    pub fn allow_remote(self) -> Self {
        Self { remote: true, ..self }
    }

    /// Begins to serve there; port 0 takes one that is free, see [`Server::address`].
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(self, address: SocketAddr) -> Result<Server, StartError> {
        // Before it can be reached.
        self.check(address)?;
        let listener = TcpListener::bind(address).map_err(|error| StartError::Listen { address, error })?;
        self.start_on(listener)
    }

    /// Begins to serve whoever connects there: for a program that must know early whether it can, before it has a pipeline.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start_on(self, listener: TcpListener) -> Result<Server, StartError> {
        let address = listener.local_addr().map_err(StartError::Begin)?;
        self.check(address)?;
        listener.set_nonblocking(true).map_err(StartError::Begin)?;
        let scrape = Arc::new(Scrape::new(self.hook));
        let (alive, stop) = oneshot::channel();
        let (tell, begun) = mpsc::channel();
        let Self { monitor, within, .. } = self;
        let of = Arc::clone(&scrape);
        // In the thread, because a program that is asynchronous itself may neither block on a runtime nor drop one in its own.
        let run = move || {
            let runtime = runtime::Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .thread_name("kp-look")
                .max_blocking_threads(LOOKERS)
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(tell.send(Err(error))),
            };
            runtime.block_on(async {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => {
                        let _heard = tell.send(Ok(()));
                        let answers = Answers::start(&monitor, within, of);
                        crowd::serve(listener, answers, stop).await;
                    }
                    Err(error) => drop(tell.send(Err(error))),
                }
            });
            runtime.shutdown_timeout(LAST_LOOK);
        };
        let thread = Builder::new().name("kp-metrics".to_owned()).spawn(run).map_err(StartError::Begin)?;
        begun.recv().unwrap_or_else(|gone| Err(io::Error::other(gone))).map_err(StartError::Begin)?;
        Ok(Server { address, scrape, alive: Some(alive), thread: Some(thread) })
    }

    fn check(&self, address: SocketAddr) -> Result<(), StartError> {
        match self.remote || is_loopback(address.ip()) {
            true => Ok(()),
            false => Err(StartError::NotLoopback(address)),
        }
    }
}

/// An IPv4 address in the clothes of IPv6 is what it is.
fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Shows the last books from here on, with all that was dropped at the end. Otherwise what was seen last stays.
    pub fn finished(&self, done: &Finished) {
        self.scrape.finish(done);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            // It catches what answering panics with.
            let _ended = thread.join();
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("within", &self.within)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}
