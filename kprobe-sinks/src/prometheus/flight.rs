use std::sync::Arc;

use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};

/// A call that blocks, made once for all who ask while none is under way: so that many who ask of a pipeline that is stuck
/// wait as long as one, or two.
#[derive(Debug)]
pub(super) struct Flight<T> {
    ask: mpsc::Sender<oneshot::Sender<T>>,
}

impl<T: Clone + Send + 'static> Flight<T> {
    /// Within a runtime. It ends with the last that can ask.
    pub(super) fn start(most: usize, call: impl Fn() -> T + Send + Sync + 'static) -> Self {
        let (ask, mut asked) = mpsc::channel::<oneshot::Sender<T>>(most);
        let call = Arc::new(call);
        tokio::spawn(async move {
            while let Some(first) = asked.recv().await {
                let mut waiting = vec![first];
                while let Ok(next) = asked.try_recv() {
                    waiting.push(next);
                }
                let call = Arc::clone(&call);
                // A panic leaves them without an answer, which is one.
                let Ok(answer) = spawn_blocking(move || call()).await else { continue };
                for one in waiting {
                    let _left = one.send(answer.clone());
                }
            }
        });
        Self { ask }
    }

    /// `None` if the call panicked.
    pub(super) async fn call(&self) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.ask.send(answer).await.ok()?;
        answered.await.ok()
    }
}
