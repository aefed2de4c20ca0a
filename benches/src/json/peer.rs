//! The peer: plain structs with the fields of a line, as one would write them for `serde_json`.
//!
//! It gets what a program has that uses kprobe without its sinks: typed events. It is spared what would be no work of
//! `serde_json`: the text of the time is made anew once a second, and else only its digits of nanoseconds are.

use std::net::IpAddr;

use anyhow::Result;
use jiff::Timestamp;
use kprobe_core::{
    event::{Arch, SchedSwitch, Syscall, SyscallAbi, TcpSend, TypedEvent, errno_name},
    pipeline::{Batch, Clocks, Context, Enriched},
};
use serde::Serialize;

macro_rules! lines {
    ($($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)+ })+) => {$(
        #[derive(Serialize)]
        pub(super) struct $name<'a> {
            kind: &'static str,
            ktime_ns: u64,
            time: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            cpu: Option<u16>,
            tgid: u32,
            tid: u32,
            #[serde(skip_serializing_if = "str::is_empty")]
            comm: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            cgroup_id: Option<u64>,
            seq: u32,
            #[serde(skip_serializing_if = "Option::is_none")]
            container: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            parent_tgid: Option<u32>,
            $($(#[$attribute])* $field: $type,)+
        }
    )+};
}

/// The struct of an event with these fields of its own.
macro_rules! line {
    ($name:ident of $event:ident, $about:ident, { $($field:ident: $value:expr,)+ }) => {
        $name {
            kind: Self::NAME,
            ktime_ns: $event.origin.ktime_ns,
            time: $about.time,
            cpu: $event.origin.cpu,
            tgid: $event.origin.tgid.0,
            tid: $event.origin.tid.0,
            comm: $about.comm,
            cgroup_id: ($event.origin.cgroup_id != 0).then_some($event.origin.cgroup_id),
            seq: $event.origin.seq,
            container: $about.context.container.as_deref(),
            parent_tgid: $about.context.parent.map(|parent| parent.0),
            $($field: $value,)+
        }
    };
}

lines! {
    SyscallLine {
        #[serde(skip_serializing_if = "Option::is_none")]
        nr: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        abi: Option<&'static str>,
        enter_ktime_ns: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        duration_ns: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        fd: Option<i32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        requested: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ret: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        errno: Option<&'static str>,
    }
    SwitchLine {
        next_tgid: u32,
        next_tid: u32,
        prev_state: &'static str,
        prev_prio: i16,
        next_prio: i16,
        preempt: bool,
    }
    SendLine {
        #[serde(skip_serializing_if = "Option::is_none")]
        cookie: Option<u64>,
        local_addr: IpAddr,
        local_port: u16,
        remote_addr: IpAddr,
        remote_port: u16,
        ipv6: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        netns: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        srtt_us: Option<u32>,
        start: u64,
        end: u64,
        bytes: u64,
    }
}

/// What a line says beside its event.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    time: &'a str,
    comm: &'a str,
    context: &'a Context,
}

/// An event with a struct for `serde_json`.
pub(super) trait Peer: TypedEvent {
    type Line<'a>: Serialize;

    fn line<'a>(&self, about: About<'a>) -> Self::Line<'a>;
}

impl Peer for Syscall {
    type Line<'a> = SyscallLine<'a>;

    fn line<'a>(&self, about: About<'a>) -> SyscallLine<'a> {
        line!(SyscallLine of self, about, {
            nr: self.nr.map(|nr| nr.nr),
            name: self.nr.and_then(|nr| nr.name(Arch::X86_64)),
            abi: self.nr.filter(|nr| nr.abi != SyscallAbi::Native).map(|nr| nr.abi.name()),
            enter_ktime_ns: self.enter_ns,
            duration_ns: self.duration_ns(),
            fd: self.fd,
            requested: self.requested,
            ret: self.ret,
            errno: self.errno().and_then(errno_name),
        })
    }
}

impl Peer for SchedSwitch {
    type Line<'a> = SwitchLine<'a>;

    fn line<'a>(&self, about: About<'a>) -> SwitchLine<'a> {
        line!(SwitchLine of self, about, {
            next_tgid: self.next_tgid.0,
            next_tid: self.next_tid.0,
            prev_state: self.prev_state.letter(),
            prev_prio: self.prev_prio,
            next_prio: self.next_prio,
            preempt: self.preempt,
        })
    }
}

impl Peer for TcpSend {
    type Line<'a> = SendLine<'a>;

    fn line<'a>(&self, about: About<'a>) -> SendLine<'a> {
        line!(SendLine of self, about, {
            cookie: self.socket.cookie,
            local_addr: self.socket.local_addr,
            local_port: self.socket.local_port,
            remote_addr: self.socket.remote_addr,
            remote_port: self.socket.remote_port,
            ipv6: self.socket.is_ipv6,
            netns: self.socket.netns,
            role: self.socket.role.map(|role| role.name()),
            srtt_us: self.socket.srtt_us,
            start: self.start,
            end: self.end,
            bytes: self.bytes(),
        })
    }
}

/// Appends the line of a record to `buf`.
#[inline]
pub(super) fn put_line<E: Peer>(
    enriched: Enriched<'_>,
    clocks: &Clocks,
    clock: &mut Clock,
    buf: &mut Vec<u8>,
) -> Result<()> {
    let event = E::decode(enriched.record)?;
    let time = clock.text(clocks.wall_ns(event.origin().ktime_ns));
    let comm = enriched.context.comm.to_text();
    put(&event.line(About { time, comm: &comm, context: enriched.context }), buf)
}

/// The same for a line that is a struct already.
#[inline]
pub(super) fn put(line: &impl Serialize, buf: &mut Vec<u8>) -> Result<()> {
    serde_json::to_writer(&mut *buf, line)?;
    buf.push(b'\n');
    Ok(())
}

/// Gives the structs of all lines to `then`.
pub(super) fn with_lines<E: Peer, R>(
    batch: &Batch,
    clocks: &Clocks,
    then: impl FnOnce(&[E::Line<'_>]) -> R,
) -> Result<R> {
    let mut clock = Clock::new();
    let mut parts = Vec::new();
    for enriched in batch.enriched() {
        let enriched = enriched?;
        let event = E::decode(enriched.record)?;
        let time = clock.text(clocks.wall_ns(event.origin().ktime_ns)).to_owned();
        parts.push((event, time, enriched.context.comm.to_text(), enriched.context));
    }
    let lines: Vec<_> =
        parts.iter().map(|(event, time, comm, context)| event.line(About { time, comm, context })).collect();
    Ok(then(&lines))
}

/// Wall-clock times as text.
pub(super) struct Clock {
    second: u64,
    text: String,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { second: u64::MAX, text: String::new() }
    }

    #[inline]
    fn text(&mut self, wall_ns: u64) -> &str {
        let (second, mut left) = (wall_ns / 1_000_000_000, wall_ns % 1_000_000_000);
        if second != self.second {
            self.second = second;
            let time = Timestamp::from_second(second.cast_signed()).unwrap_or_default();
            self.text = format!("{time:.9}");
        }
        let mut digits = [b'0'; 9];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        self.text.truncate(20);
        self.text.push_str(str::from_utf8(&digits).unwrap_or_default());
        self.text.push('Z');
        &self.text
    }
}
