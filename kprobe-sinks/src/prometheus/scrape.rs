use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use kprobe_core::pipeline::{Finished, Seen};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::metrics::{self, facade::with_local_recorder};

/// Makes the page. The recorder is the page's own: a program may have installed another one.
pub(super) struct Scrape {
    recorder: PrometheusRecorder,
    page: PrometheusHandle,
    hook: Mutex<Box<dyn FnMut() + Send>>,
    /// The last books were published: what was seen before them and comes later is older.
    finished: Mutex<bool>,
}

impl Scrape {
    pub(super) fn new(hook: Box<dyn FnMut() + Send>) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let page = recorder.handle();
        with_local_recorder(&recorder, metrics::describe);
        Self { recorder, page, hook: Mutex::new(hook), finished: Mutex::new(false) }
    }

    pub(super) fn finish(&self, done: &Finished) {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        *finished = true;
        with_local_recorder(&self.recorder, || metrics::publish_finished(done));
    }

    pub(super) fn page(&self, seen: Option<&Seen>) -> String {
        with_local_recorder(&self.recorder, || {
            let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
            metrics::publish(seen.filter(|_| !*finished));
            drop(finished);
            // One that panicked is called again: what it left half done is its own affair.
            let mut hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner);
            hook();
        });
        self.page.render()
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}
