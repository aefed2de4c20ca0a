//! What is served is what the books say; and nobody who asks, or does not, keeps another from being served.
#![expect(clippy::unwrap_used, reason = "tests")]

mod books;
mod clients;
mod exposition;
mod health;
mod listening;
mod page;
mod support;
