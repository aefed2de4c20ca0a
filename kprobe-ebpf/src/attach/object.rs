use std::{
    collections::BTreeMap,
    mem::offset_of,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{Arc, atomic::Ordering},
};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError, MapType},
    programs::{
        BtfTracePoint, FEntry, FExit, KProbe, PerfEvent, Program, ProgramError, RawTracePoint, TracePoint,
        perf_event,
    },
    util::{nr_cpus, online_cpus},
};
use kprobe_core::abi::{Config, HistogramSlot, IrqCpu, Kind, PathAllowed};

use super::{AttachError, Build, memlock, report::MapMemory, run::run};
use crate::{
    btf::Btf,
    probe::{Allowed, ProgramPlan, SoftwareEvent, Target},
    recorder::{CpuStates, PidSet, Watched},
    ring::{ReaderStates, Ring, RingError},
    shared::SharedArray,
};

/// One object in the kernel: its maps, and the programs that were loaded from it. Dropping it detaches them.
#[derive(Debug)]
pub(crate) struct Object {
    ebpf: Ebpf,
    pub(crate) cpus: CpuStates,
    pub(crate) config: SharedArray<Config>,
    /// Those of an object that sums up.
    pub(crate) histograms: Option<SharedArray<HistogramSlot>>,
    pub(crate) tgids: Option<PidSet>,
    pub(crate) tids: Option<PidSet>,
    /// Of an object that counts interrupts.
    pub(crate) irqs: Option<Arc<SharedArray<IrqCpu>>>,
    /// In the order in which they were attached; one that serves several tracepoints may be there several times.
    attached: Vec<String>,
    /// Which events a program is for.
    serves: BTreeMap<String, Vec<&'static str>>,
    /// Programs that the rung which is being attached does without, and why.
    pub(crate) left_out: Vec<String>,
    /// Of programs that are detached.
    skipped: u64,
    /// It is kprobe's own, not a user's.
    pub(crate) is_builtin: bool,
    build: Build,
    /// Its programs may remember which threads are selected.
    remembers: bool,
    /// Cgroups that it has room for.
    pub(crate) most_cgroups: usize,
    /// What paths may be recorded of, by the number of its entry: open as long as the programs know it by its address.
    allowed: Vec<(u16, OwnedFd)>,
}

/// What a load needs to know.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    /// Name in errors.
    pub(crate) name: &'a str,
    pub(crate) is_builtin: bool,
    pub(crate) remembers: bool,
    pub(crate) bytes: &'a [u8],
    pub(crate) globals: &'a [(&'static str, Vec<u8>)],
    pub(crate) max_entries: &'a [(&'static str, u32)],
    /// Kinds that its programs emit.
    pub(crate) kinds: Vec<Kind>,
    pub(crate) shards: u32,
    pub(crate) shard_bytes: u32,
    pub(crate) build: Build,
    /// Bytes of maps that this process may have, if there is such a limit.
    pub(crate) memlock: Option<u64>,
}

/// Maps shared between rings and programs.
#[derive(Debug)]
pub(crate) struct Rings {
    pub(crate) rings: Vec<Ring>,
    pub(crate) states: ReaderStates,
}

impl Object {
    /// Creates the maps and prepares the programs; none is loaded yet.
    pub(crate) fn load(load: Load<'_>) -> Result<(Self, Rings), AttachError> {
        let bad = |reason: String| AttachError::Object { probe: load.name.to_owned(), reason };
        let mut loader = EbpfLoader::new();
        loader.allow_unsupported_maps().verifier_log_level(VerifierLogLevel::DEBUG);
        for (name, value) in load.globals {
            loader.override_global(name, value.as_slice(), false);
        }
        for (name, entries) in load.max_entries {
            loader.map_max_entries(name, *entries);
        }
        let limit = |error: &(dyn std::error::Error + 'static)| {
            load.memlock
                .filter(|_| memlock::is_reached(error))
                .map(|limit| AttachError::LockedMemory { limit })
        };
        let mut ebpf = loader
            .load(load.bytes)
            .map_err(|error| limit(&error).unwrap_or_else(|| bad(one_line(&error))))?;
        drop(loader);

        let mut rings = Vec::new();
        let outer = ebpf
            .map_mut("RINGS")
            .ok_or_else(|| bad("it has no map RINGS; build it on kprobe-programs".into()))?;
        let mut outer = ArrayOfMaps::<_, MapData>::try_from(outer).map_err(AttachError::map)?;
        for shard in 0..load.shards {
            let ring = ring_map(load.shard_bytes)
                .map_err(|error| limit(&error).unwrap_or_else(|| AttachError::map(error)))?;
            outer.set(shard, &ring, 0).map_err(AttachError::map)?;
            let ring = ring.fd().as_fd().try_clone_to_owned().map_err(RingError::Os)?;
            // SAFETY: made on the lines above; only the programs know it besides.
            rings.push(unsafe { Ring::map(ring) }?);
        }
        let data = |name: &str| {
            let map = ebpf
                .map(name)
                .ok_or_else(|| bad(format!("it has no map {name}; build it on kprobe-programs")))?;
            map_data(map).ok_or_else(|| bad(format!("its map {name} is not an array")))
        };
        let states = ReaderStates::map(data("READERS")?.fd().as_fd())?;
        let cpus = CpuStates::map(data("CPUS")?, load.kinds)?;
        let config = SharedArray::<Config>::map(data("CONFIG")?)?;
        // Until the selection is in the maps.
        config.u32_at(0, offset_of!(Config, unsettled)).store(1, Ordering::SeqCst);
        let pids = |name| ebpf.map(name).and_then(map_data).map(PidSet::map).transpose();
        let histograms = ebpf.map("HISTOGRAMS").and_then(map_data).map(SharedArray::map).transpose()?;
        let (tgids, tids) = (pids("TGIDS")?, pids("TIDS")?);
        let irqs = ebpf.map("IRQS").and_then(map_data).map(SharedArray::map).transpose()?.map(Arc::new);
        let object = Self {
            ebpf,
            cpus,
            config,
            histograms,
            tgids,
            tids,
            irqs,
            attached: Vec::new(),
            serves: BTreeMap::new(),
            left_out: Vec::new(),
            skipped: 0,
            is_builtin: load.is_builtin,
            build: load.build,
            remembers: load.remembers,
            most_cgroups: load
                .max_entries
                .iter()
                .find(|(map, _)| *map == "CGROUPS")
                .map_or(0, |(_, most)| *most as usize),
            allowed: Vec::new(),
        };
        Ok((object, Rings { rings, states }))
    }

    /// Whether programs are attached that remember which threads are selected.
    pub(crate) fn remembers(&self) -> bool {
        self.remembers && self.attached.iter().any(|program| program == "syscall_enter_btf")
    }

    /// Adds a cgroup to those whose members, and the members of what is below, are recorded.
    pub(crate) fn insert_cgroup(&mut self, id: u64, level: u32) -> Result<(), AttachError> {
        let Some(map) = self.ebpf.map_mut("CGROUPS") else { return Ok(()) };
        let mut cgroups = HashMap::<_, u64, u32>::try_from(map).map_err(AttachError::map)?;
        cgroups.insert(id, level, 0).map_err(AttachError::map)
    }

    /// Takes a cgroup out again.
    pub(crate) fn remove_cgroup(&mut self, id: u64) -> Result<(), AttachError> {
        let Some(map) = self.ebpf.map_mut("CGROUPS") else { return Ok(()) };
        let mut cgroups = HashMap::<_, u64, u32>::try_from(map).map_err(AttachError::map)?;
        match cgroups.remove(&id) {
            Err(MapError::KeyNotFound) => Ok(()),
            result => result.map_err(AttachError::map),
        }
    }

    /// Opens what paths may be recorded of, and tells the programs what it is called. What it is they learn when the first
    /// of them is attached.
    pub(crate) fn allow(&mut self, allowed: &[Allowed]) -> Result<(), AttachError> {
        for allowed in allowed {
            self.allowed.push((allowed.entry, allowed.open()?));
            let Some(map) = self.ebpf.map_mut("PATH_LIST") else { continue };
            let mut list =
                Array::<_, [u8; size_of::<PathAllowed>()]>::try_from(map).map_err(AttachError::map)?;
            let named: [u8; size_of::<PathAllowed>()] = zerocopy::transmute!(allowed.named());
            list.set(allowed.entry.into(), named, 0).map_err(AttachError::map)?;
        }
        Ok(())
    }

    /// Whether the object has such a program.
    pub(crate) fn has_program(&self, name: &str) -> bool {
        self.ebpf.program(name).is_some()
    }

    /// Loads and attaches all of `programs`, or none. A program that is loaded already serves somebody else: it is
    /// neither attached once more, which would double its records, nor unloaded. If it is one that makes none, that will do,
    /// and so it will where the same programs of our own make several events, and all are there.
    pub(crate) fn attach(&mut self, programs: &[ProgramPlan], btf: &aya::Btf) -> Result<(), Refused> {
        let is_attached = |plan: &ProgramPlan| self.attached.iter().any(|program| *program == plan.program);
        let mut needed = programs.iter().filter(|plan| !plan.is_optional);
        if self.is_builtin && needed.all(is_attached) {
            return Ok(());
        }
        let mut done: Vec<String> = Vec::with_capacity(programs.len());
        for plan in programs {
            if !plan.with.iter().all(|with| done.iter().any(|program| program == with)) {
                continue;
            }
            let outcome = if self.is_loaded(&plan.program) {
                if plan.is_shared {
                    continue;
                }
                Err(format!("the program {} is attached for another probe already", plan.program).into())
            } else {
                done.push(plan.program.to_string());
                self.attach_one(plan, btf)
            };
            if let Err(refused) = outcome {
                if plan.is_optional {
                    self.unload(&plan.program);
                    done.pop();
                    self.leave_out(plan, &refused.reason);
                    continue;
                }
                done.iter().for_each(|undo| self.unload(undo));
                return Err(refused);
            }
        }
        self.attached.extend(done);
        Ok(())
    }

    /// Remembers that a rung does without one of its programs.
    pub(crate) fn leave_out(&mut self, plan: &ProgramPlan, reason: &str) {
        let without = format!("{}: {reason}", plan.target.name());
        // Its entry and its return, for example.
        if !self.left_out.contains(&without) {
            self.left_out.push(without);
        }
    }

    /// Remembers that these programs, as far as they are loaded, are for this event.
    pub(crate) fn serve(&mut self, programs: &[ProgramPlan], event: &'static str) {
        for plan in programs {
            let events = self.serves.entry(plan.program.to_string()).or_default();
            if !events.contains(&event) {
                events.push(event);
            }
        }
    }

    /// Every program that is loaded, by name, with a descriptor more.
    pub(crate) fn watched(&self) -> Vec<Watched> {
        let loaded = self.ebpf.programs().filter_map(|(name, program)| Some((name, program.fd().ok()?)));
        let mut watched: Vec<_> = loaded
            .map(|(name, program)| Watched {
                name: name.to_owned(),
                probes: self.serves.get(name).cloned().unwrap_or_default(),
                program: program.as_fd().try_clone_to_owned(),
            })
            .collect();
        watched.sort_by(|one, other| one.name.cmp(&other.name));
        watched
    }

    /// Attaches what counts the depth of interrupts. Tracepoints that this kernel was built without are left out; device
    /// interrupts and softirqs must be there.
    pub(crate) fn attach_context(&mut self, programs: &[ProgramPlan], btf: &aya::Btf) -> Result<(), String> {
        for plan in programs {
            let Target::RawTracepoint(tracepoint) = &plan.target else { continue };
            if let Err(Refused { reason, .. }) = self.attach_one(plan, btf)
                && (tracepoint.starts_with("irq_handler") || tracepoint.starts_with("softirq"))
            {
                self.detach();
                return Err(reason);
            }
            self.attached.push(plan.program.to_string());
        }
        Ok(())
    }

    fn attach_one(&mut self, plan: &ProgramPlan, btf: &aya::Btf) -> Result<(), Refused> {
        let program = self.ebpf.program_mut(&plan.program).ok_or_else(|| self.build.lacks(&plan.program))?;
        let refused = |error: &ProgramError| refusal(&plan.target, error);
        match &plan.target {
            Target::BtfTracepoint(tracepoint) => {
                let program: &mut BtfTracePoint = program.try_into().map_err(|error| refused(&error))?;
                program.load(tracepoint, btf).map_err(|error| refused(&error))?;
                program.attach().map_err(|error| refused(&error))?;
            }
            Target::RawTracepoint(tracepoint) => {
                let program: &mut RawTracePoint = program.try_into().map_err(|error| refused(&error))?;
                if let Err(error) = program.load() {
                    // One program may serve several tracepoints.
                    if !matches!(error, ProgramError::AlreadyLoaded) {
                        return Err(refused(&error));
                    }
                }
                program.attach(tracepoint).map_err(|error| refused(&error))?;
            }
            Target::FunctionEntry(function) => {
                let program: &mut FEntry = program.try_into().map_err(|error| refused(&error))?;
                program.load(function, btf).map_err(|error| refused(&error))?;
                program.attach().map_err(|error| refused(&error))?;
            }
            Target::FunctionExit(function) => {
                let program: &mut FExit = program.try_into().map_err(|error| refused(&error))?;
                program.load(function, btf).map_err(|error| refused(&error))?;
                program.attach().map_err(|error| refused(&error))?;
            }
            Target::Kprobe(function) | Target::Kretprobe(function) => {
                let program: &mut KProbe = program.try_into().map_err(|error| refused(&error))?;
                program.load().map_err(|error| refused(&error))?;
                program.attach(function.as_ref(), 0).map_err(|error| refused(&error))?;
            }
            Target::TraceEvent { category, name } => {
                let program: &mut TracePoint = program.try_into().map_err(|error| refused(&error))?;
                program.load().map_err(|error| refused(&error))?;
                program.attach(category, name).map_err(|error| refused(&error))?;
            }
            Target::Loader => {
                let program: &mut RawTracePoint = program.try_into().map_err(|error| refused(&error))?;
                program.load().map_err(|error| refused(&error))?;
                let fd = program.fd().map_err(|error| refused(&error))?.as_fd();
                for (entry, file) in &self.allowed {
                    let file = u64::from(file.as_raw_fd().cast_unsigned());
                    match run(fd, [file, (*entry).into()]) {
                        Ok(0) => {}
                        Ok(other) => {
                            return Err(
                                format!("{} could not find entry {entry}: {other}", plan.program).into()
                            );
                        }
                        Err(error) => return Err(format!("cannot run {}: {error}", plan.program).into()),
                    }
                }
            }
            Target::SoftwareEvent(event) => {
                let program: &mut PerfEvent = program.try_into().map_err(|error| refused(&error))?;
                program.load().map_err(|error| refused(&error))?;
                let event = perf_event::PerfEventConfig::Software(match event {
                    SoftwareEvent::MajorFaults => perf_event::SoftwareEvent::PageFaultsMaj,
                    SoftwareEvent::MinorFaults => perf_event::SoftwareEvent::PageFaultsMin,
                });
                let each = perf_event::SamplePolicy::Period(1);
                for cpu in online_cpus().map_err(|(file, error)| format!("{file}: {error}"))? {
                    let scope = perf_event::PerfEventScope::AllProcessesOneCpu { cpu };
                    program.attach(event, scope, each, false).map_err(|error| refused(&error))?;
                }
            }
        }
        Ok(())
    }

    fn is_loaded(&self, name: &str) -> bool {
        self.ebpf.program(name).is_some_and(|program| program.fd().is_ok())
    }

    fn unload(&mut self, name: &str) {
        let unloaded = match self.ebpf.program_mut(name) {
            Some(Program::BtfTracePoint(program)) => program.unload(),
            Some(Program::RawTracePoint(program)) => program.unload(),
            Some(Program::TracePoint(program)) => program.unload(),
            Some(Program::FEntry(program)) => program.unload(),
            Some(Program::FExit(program)) => program.unload(),
            Some(Program::KProbe(program)) => program.unload(),
            Some(Program::PerfEvent(program)) => program.unload(),
            _ => return,
        };
        // The only error is that it was not loaded.
        drop(unloaded);
    }

    /// Sum of the kernel's `recursion_misses` of all programs, those that were detached included.
    pub(crate) fn skipped_programs(&self) -> u64 {
        self.skipped + self.ebpf.programs().filter_map(|(_, program)| recursion_misses(program)).sum::<u64>()
    }

    /// Detaches every program; the maps stay, with what is in the rings.
    ///
    /// Last comes what was attached first: the program that follows forks. Without it the others would take a new process
    /// for a dead one whose pid it got, or whose kernel stack, and record it.
    pub(crate) fn detach(&mut self) {
        self.skipped = self.skipped_programs();
        for name in std::mem::take(&mut self.attached).into_iter().rev() {
            self.unload(&name);
        }
    }

    /// Most bytes that each map can take, and what task storage takes for a thread, if it is used. Which maps a program
    /// uses the kernel tells only to CAP_SYS_ADMIN.
    pub(crate) fn memory(&self, btf: &Btf, is_stored_in: impl Fn(&str) -> bool) -> Vec<MapMemory> {
        // If it cannot be told how many there are, they are not told either.
        let possible = nr_cpus().map_or(0, |cpus| cpus as u64);
        let maps = self.ebpf.maps().filter_map(|(name, map)| {
            let info = map_data(map)?.info().ok()?;
            let key = u64::from(info.key_size()).next_multiple_of(8);
            let of_one = u64::from(info.value_size()).next_multiple_of(8);
            let value = match map {
                // A pointer to one for each CPU.
                Map::PerCpuArray(_) | Map::PerCpuHashMap(_) | Map::PerCpuLruHashMap(_) => {
                    8 + of_one * possible
                }
                _ => of_one,
            };
            // A hash has a header for each element and a bucket for each element.
            let is_hash = matches!(
                map,
                Map::HashMap(_) | Map::LruHashMap(_) | Map::PerCpuHashMap(_) | Map::PerCpuLruHashMap(_)
            );
            let element = if is_hash { 64 + key + value } else { value };
            let bytes = (element * u64::from(info.max_entries())).next_multiple_of(4096);
            let is_stored = matches!(info.map_type(), Ok(MapType::TaskStorage)) && is_stored_in(name);
            let per_thread_bytes = if is_stored { task_storage_bytes(btf, value) } else { None };
            Some(MapMemory { map: name.to_owned(), bytes, per_thread_bytes })
        });
        maps.collect()
    }
}

/// What the kernel allocates for the first value of `value` bytes in the storage of a task: the element, and the head
/// of all elements of the task (kernel/bpf/bpf_local_storage.c). Allocations of this size are multiples of 64 bytes.
fn task_storage_bytes(btf: &Btf, value: u64) -> Option<u64> {
    let data = btf.member_offset("bpf_local_storage_elem", "sdata.data").ok()?.byte_offset;
    let head = btf.struct_size("bpf_local_storage").ok()?;
    Some((u64::from(data) + value).next_multiple_of(64) + u64::from(head).next_multiple_of(64))
}

/// `bpf_prog_show_fdinfo` tells it (Linux 5.12 and later).
fn recursion_misses(program: &Program) -> Option<u64> {
    let fd = program.fd().ok()?.as_fd().as_raw_fd();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

/// Creates a ring buffer outside of any object.
fn ring_map(bytes: u32) -> Result<MapData, aya::maps::MapError> {
    const BPF_MAP_TYPE_RINGBUF: u32 = 27;
    MapData::create(aya_obj::Map::new_from_params(BPF_MAP_TYPE_RINGBUF, 0, 0, bytes, 0), "kprobe_ring", None)
}

fn map_data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::HashMap(data)
        | Map::PerCpuHashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuLruHashMap(data)
        | Map::RingBuf(data)
        | Map::ArrayOfMaps(data)
        | Map::Unsupported(data) => Some(data),
        _ => None,
    }
}

/// Why a program is not attached.
#[derive(Debug)]
pub(crate) struct Refused {
    /// In one line.
    pub(crate) reason: String,
    /// The kernel would not load it: because of what the program does, and not of what it is attached to.
    pub(crate) is_of_loading: bool,
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Self { reason, is_of_loading: false }
    }
}

fn refusal(target: &Target, error: &ProgramError) -> Refused {
    let is_of_loading = matches!(error, ProgramError::LoadError { .. });
    Refused { reason: wording(target, error), is_of_loading }
}

fn wording(target: &Target, error: &ProgramError) -> String {
    let kind = match target {
        Target::SoftwareEvent(_) => "software event",
        target if target.is_function() => "function",
        _ => "tracepoint",
    };
    let name = target.name();
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let verdict = log.lines().rev().find(|line| {
                let line = line.trim();
                !line.is_empty() && !line.starts_with("processed ") && !line.starts_with("verification time")
            });
            match verdict {
                Some(verdict) => format!("the verifier refused it ({io_error}): {}", verdict.trim()),
                None => format!("loading failed: {io_error}"),
            }
        }
        ProgramError::Btf(_) => format!("this kernel has no {kind} {name} with type information"),
        ProgramError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
            format!("this kernel has no {kind} {name}")
        }
        other => one_line(other),
    }
}

fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        let below_text = below.to_string();
        if !text.contains(&below_text) {
            text = format!("{text}: {below_text}");
        }
        cause = below.source();
    }
    text.replace('\n', " ")
}
