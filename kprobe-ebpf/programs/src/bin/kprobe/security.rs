use kprobe_programs::{
    memory::{Direct, Probed},
    security,
};

btf!(security_capability_btf, "cap_capable", security::checked::<Direct>);
raw!(security_capability_raw, "cap_capable", security::checked::<Probed>);
tp!(security_capability_tp, "capability", "cap_capable", security::checked_event);
exit!(security_capability_exit, "cap_capable", security::returned);
kprobe!(security_capability_kprobe, "cap_capable", security::entered);
kretprobe!(security_capability_kretprobe, "cap_capable", security::left);
