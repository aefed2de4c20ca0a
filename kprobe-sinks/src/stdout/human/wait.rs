use kprobe_core::event::{
    Arch, WaitBlocked, WaitClass, WaitEpoll, WaitKey, WaitThrottle, WakeContext, Waker,
};

use super::{
    line::{Line, Thread, WHO, WORD},
    text::Span,
};

/// `waited 1.23ms for pipe [58657] in read(3), woken by cat:1234 in write(4)`
pub(super) fn put_blocked(line: &mut Line<'_>, event: &WaitBlocked, arch: Arch, waker: &Thread) {
    line.styled(WORD, format_args!("waited"));
    line.put(format_args!(" {} for ", Span(event.duration_ns())));
    put_thing(line, &event.key);
    put_call(line, &event.key, arch);
    match &event.waker {
        Some(by) => put_waker(line, event, by, arch, waker),
        None => line.put(format_args!(", woken by what was not seen")),
    }
}

fn put_waker(line: &mut Line<'_>, event: &WaitBlocked, by: &Waker, arch: Arch, waker: &Thread) {
    line.put(format_args!(", woken by "));
    match (by.context, &by.key) {
        (Some(WakeContext::Task), key) => {
            line.styled(WHO, format_args!("{waker}"));
            let Some(key) = key else { return };
            put_call(line, key, arch);
            match key.class {
                WaitClass::EXIT => line.put(format_args!(", which ends")),
                WaitClass::CALL | WaitClass::FAULT | WaitClass::KERNEL => {}
                _ if key.is_same(&event.key) => {}
                _ => {
                    line.put(format_args!(" for "));
                    put_thing(line, key);
                }
            }
        }
        (_, Some(_)) if by.timed_out => line.put(format_args!("its time limit")),
        (Some(context), Some(key)) => {
            put_thing(line, key);
            line.put(format_args!(" [{}]", context.name()));
        }
        (Some(context), None) => line.put(format_args!("[{}]", context.name())),
        (None, _) => line.put(format_args!("[?]")),
    }
}

fn put_thing(line: &mut Line<'_>, key: &WaitKey) {
    let name = key.class.name().unwrap_or("?");
    let Some(object) = key.object else {
        line.put(format_args!("{name}"));
        return;
    };
    match (key.class, key.device) {
        (WaitClass::REQUEST, Some(device)) => line.put(format_args!("{name} at sector {object} on {device}")),
        (WaitClass::PIPE, _) | (WaitClass::SOCKET, None) => line.put(format_args!("{name}:[{object}]")),
        (_, Some(device)) => line.put(format_args!("{name} {object} on {device}")),
        (WaitClass::FUTEX, None) => line.put(format_args!("{name} {object:#x}")),
        (WaitClass::POLL, None) => line.put(format_args!("{name} of {object}")),
        (WaitClass::CHILD | WaitClass::QUEUE, None) => line.put(format_args!("{name} {object}")),
        _ => line.put(format_args!("{name} {object:#018x}")),
    }
}

/// ` in read(3)`
fn put_call(line: &mut Line<'_>, key: &WaitKey, arch: Arch) {
    let Some(call) = key.call else { return };
    match call.name(arch) {
        Some(name) => line.put(format_args!(" in {name}(")),
        None => line.put(format_args!(" in syscall_{}(", call.nr)),
    }
    match key.fd {
        Some(fd) => line.put(format_args!("{fd})")),
        None => line.put(format_args!(")")),
    }
}

/// `adds 7 to epoll set 5: pipe:[58657]`
pub(super) fn put_epoll(line: &mut Line<'_>, event: &WaitEpoll) {
    match event.op.name() {
        Some("add") => line.styled(WORD, format_args!("adds")),
        Some("del") => line.styled(WORD, format_args!("removes")),
        Some("mod") => line.styled(WORD, format_args!("changes")),
        _ => line.styled(WORD, format_args!("epoll operation {}", event.op.0)),
    }
    if let Some(fd) = event.member.fd {
        line.put(format_args!(" {fd}"));
    }
    line.put(format_args!(" in epoll set {} ({:#018x}): ", event.epfd, event.epoll));
    put_thing(line, &event.member);
}

/// `cgroup 4242 had to stop for 80.1ms on cpu 1`
pub(super) fn put_throttle(line: &mut Line<'_>, event: &WaitThrottle) {
    match event.cgroup_id {
        Some(id) => line.put(format_args!("cgroup {id} ")),
        None => line.put(format_args!("a cgroup ")),
    }
    line.styled(WORD, format_args!("had to stop"));
    line.put(format_args!(" for {} on cpu {}", Span(event.duration_ns()), event.cpu));
}
