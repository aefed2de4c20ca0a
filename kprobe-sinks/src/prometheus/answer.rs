use std::{
    convert::Infallible,
    fmt::Write,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
};
use kprobe_core::pipeline::{Health, Monitor, Seen, SinkStatus};

use super::{crowd::MOST, flight::Flight, scrape::Scrape};

/// Version 0.0.4 of the text format, which every Prometheus reads.
const EXPOSITION: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Answers requests.
#[derive(Debug)]
pub(super) struct Answers {
    look: Flight<Option<Arc<Seen>>>,
    scrape: Flight<Bytes>,
    /// The longest that the pipeline is waited for.
    pub(super) within: Duration,
}

impl Answers {
    /// Within a runtime.
    pub(super) fn start(monitor: &Monitor, within: Duration, scrape: Arc<Scrape>) -> Self {
        let looker = monitor.clone();
        let look = Flight::start(MOST, move || looker.look(within).map(Arc::new));
        let looker = monitor.clone();
        // Not by way of `look`: what the user has hooked in may hang, and that is nothing to a health check.
        let scrape = Flight::start(MOST, move || scrape.page(looker.look(within).as_ref()).into());
        Self { look, scrape, within }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Text> {
        let path = request.uri().path();
        if !["/metrics", "/healthz", "/readyz"].contains(&path) {
            return text(StatusCode::NOT_FOUND, "there is /metrics, /healthz and /readyz\n");
        }
        if request.method() != Method::GET {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return response;
        }
        match path {
            "/metrics" => self.metrics().await,
            "/healthz" => match self.seen().await {
                Ok(_) => text(StatusCode::OK, "ok\n"),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
            },
            _ => match self.seen().await.and_then(|seen| ready(&seen.sinks)) {
                Ok(()) => text(StatusCode::OK, "ok\n"),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
            },
        }
    }

    async fn metrics(&self) -> Response<Text> {
        match self.scrape.call().await {
            Some(page) => {
                let mut response = text(StatusCode::OK, page);
                response.headers_mut().insert(CONTENT_TYPE, EXPOSITION);
                response
            }
            None => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "what this program calls before each scrape has panicked; its standard error says where\n",
            ),
        }
    }

    async fn seen(&self) -> Result<Arc<Seen>, String> {
        let within = self.within;
        let gone = || format!("the pipeline is over, or it is stuck: no answer within {within:?}\n");
        self.look.call().await.flatten().ok_or_else(gone)
    }
}

/// Else a line for each sink that is not well.
fn ready(sinks: &[SinkStatus]) -> Result<(), String> {
    let mut lines = String::new();
    for sink in sinks {
        let (state, message) = match &sink.health {
            Health::Good => continue,
            Health::Failing(message) => ("failing", message.as_str()),
            Health::Ended(message) => ("ended", message.as_str()),
            _ => ("not well", ""),
        };
        let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // A string takes everything.
        let _written = writeln!(lines, "{}: {state}: {message}", sink.sink);
    }
    if lines.is_empty() { Ok(()) } else { Err(lines) }
}

/// The body of an answer: all who get the same page share its bytes.
pub(super) struct Text(Bytes);

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let rest = std::mem::take(&mut self.0);
        Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Text> {
    let mut response = Response::new(Text(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}
