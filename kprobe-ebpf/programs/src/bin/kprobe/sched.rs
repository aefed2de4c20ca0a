use kprobe_programs::{
    args::Args,
    context::{self, Level},
    memory::{Direct, Probed},
    sched,
};

btf!(sched_switch_btf, "sched_switch", sched::switch::<Direct>);
raw!(sched_switch_raw, "sched_switch", sched::switch::<Probed>);
btf!(sched_waking_btf, "sched_waking", sched::waking::<Direct>);
raw!(sched_waking_raw, "sched_waking", sched::waking::<Probed>);
btf!(sched_migrate_btf, "sched_migrate_task", sched::migrate::<Direct>);
raw!(sched_migrate_raw, "sched_migrate_task", sched::migrate::<Probed>);

// Each is attached to all entry or exit tracepoints of its kind; the section names only the best known.
raw!(context_hardirq_enter, "irq_handler_entry", |_: Args| context::enter(Level::Hardirq));
raw!(context_hardirq_exit, "irq_handler_exit", |_: Args| context::exit(Level::Hardirq));
raw!(context_softirq_enter, "softirq_entry", |_: Args| context::enter(Level::Softirq));
raw!(context_softirq_exit, "softirq_exit", |_: Args| context::exit(Level::Softirq));
