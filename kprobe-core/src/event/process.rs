use crate::{
    abi::{self, Kind},
    decode::{DecodeError, Record},
    event::{Arch, Comm, Device, Field, Origin, Tgid, Tid, Type, TypedEvent, Value, signal_name},
};

/// A process or a thread was created. The origin names the thread that created it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessFork {
    /// The creating thread.
    pub origin: Origin,
    /// Process of the new thread.
    pub child_tgid: Tgid,
    /// The new thread.
    pub child_tid: Tid,
    /// Its start: nanoseconds of `CLOCK_BOOTTIME`.
    pub child_start_ns: u64,
    /// Parent of the child's process.
    pub parent_tgid: Tgid,
}

impl ProcessFork {
    /// A new thread of the same process, not a new process.
    #[must_use]
    pub const fn is_thread(&self) -> bool {
        self.child_tgid.0 != self.child_tid.0
    }
}

impl TypedEvent for ProcessFork {
    const KIND: Kind = Kind::PROCESS_FORK;
    const NAME: &'static str = "process.fork";
    const FIELDS: &'static [Field] = &[
        Field::new("child_tgid", Type::U64, "process of the new thread"),
        Field::new("child_tid", Type::U64, "the new thread"),
        Field::new("child_start_ns", Type::U64, "its start, in ns of CLOCK_BOOTTIME"),
        Field::new("parent_tgid", Type::U64, "parent of the child's process"),
        Field::new("thread", Type::Bool, "a new thread of the same process, not a new process"),
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::ProcessFork = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            child_tgid: Tgid(body.child_tgid),
            child_tid: Tid(body.child_tid),
            child_start_ns: body.child_start_ns,
            parent_tgid: Tgid(body.parent_tgid),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("child_tgid", Value::U64(self.child_tgid.0.into()));
        put("child_tid", Value::U64(self.child_tid.0.into()));
        put("child_start_ns", Value::U64(self.child_start_ns));
        put("parent_tgid", Value::U64(self.parent_tgid.0.into()));
        put("thread", Value::Bool(self.is_thread()));
    }
}

/// A process began another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessExec {
    /// The process, already with its new program.
    pub origin: Origin,
    /// Its start: nanoseconds of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// Parent process.
    pub parent_tgid: Tgid,
    /// Thread that called exec, if it was another than the one it is now.
    pub old_tid: Tid,
    /// Inode number and device of the executable (of the interpreter, for a script).
    pub exe: Option<(u64, Device)>,
    /// New name of the thread.
    pub comm: Comm,
}

impl TypedEvent for ProcessExec {
    const KIND: Kind = Kind::PROCESS_EXEC;
    const NAME: &'static str = "process.exec";
    const FIELDS: &'static [Field] = &[
        Field::new("start_ns", Type::U64, "start of the process, in ns of CLOCK_BOOTTIME"),
        Field::new("parent_tgid", Type::U64, "parent process"),
        Field::new("old_tid", Type::U64, "thread that called exec, if it was not the first of its process")
            .optional(),
        Field::new("exe_inode", Type::U64, "inode number of the executable").optional(),
        Field::new("exe_dev", Type::Text, "device of the executable, major:minor").optional(),
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::ProcessExec = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            start_ns: body.start_ns,
            parent_tgid: Tgid(body.parent_tgid),
            old_tid: Tid(body.old_tid),
            exe: (body.flags & abi::EXEC_HAS_EXE != 0)
                .then(|| (body.exe_inode, Device::from_kernel(body.exe_dev))),
            comm: Comm::new(body.comm),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("start_ns", Value::U64(self.start_ns));
        put("parent_tgid", Value::U64(self.parent_tgid.0.into()));
        if self.old_tid != self.origin.tid {
            put("old_tid", Value::U64(self.old_tid.0.into()));
        }
        if let Some((inode, device)) = self.exe {
            put("exe_inode", Value::U64(inode));
            put("exe_dev", Value::Text(&device.to_string()));
        }
    }
}

/// A thread ended; with the last thread its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessExit {
    /// The thread that ends.
    pub origin: Origin,
    /// Start of its process: nanoseconds of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// Parent process.
    pub parent_tgid: Tgid,
    /// The status as `wait` reports it: that of the process if it ends, else of the thread.
    pub status: u32,
    /// The process ends with this thread.
    pub process_ended: bool,
}

impl ProcessExit {
    /// The exit code, unless a signal ended it.
    #[must_use]
    pub const fn code(&self) -> Option<u8> {
        if self.status & 0x7f == 0 { Some(self.status.to_le_bytes()[1]) } else { None }
    }

    /// The signal that ended it.
    #[must_use]
    pub const fn signal(&self) -> Option<u8> {
        let signal = self.status.to_le_bytes()[0] & 0x7f;
        if signal == 0 { None } else { Some(signal) }
    }

    /// It left a core dump.
    #[must_use]
    pub const fn dumped_core(&self) -> bool {
        self.status & 0x80 != 0
    }
}

impl TypedEvent for ProcessExit {
    const KIND: Kind = Kind::PROCESS_EXIT;
    const NAME: &'static str = "process.exit";
    const FIELDS: &'static [Field] = &[
        Field::new("start_ns", Type::U64, "start of the process, in ns of CLOCK_BOOTTIME"),
        Field::new("parent_tgid", Type::U64, "parent process"),
        Field::new("code", Type::U64, "exit code (0..=255), unless a signal ended it").optional(),
        Field::new("signal", Type::U64, "signal that ended it").optional(),
        Field::new("signal_name", Type::Text, "its name").optional(),
        Field::new("core_dumped", Type::Bool, "it left a core dump"),
        Field::new("process_ended", Type::Bool, "the process ended with this thread"),
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::ProcessExit = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            start_ns: body.start_ns,
            parent_tgid: Tgid(body.parent_tgid),
            status: body.status,
            process_ended: body.flags & abi::EXIT_PROCESS != 0,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("start_ns", Value::U64(self.start_ns));
        put("parent_tgid", Value::U64(self.parent_tgid.0.into()));
        if let Some(code) = self.code() {
            put("code", Value::U64(code.into()));
        }
        if let Some(signal) = self.signal() {
            put("signal", Value::U64(signal.into()));
            if let Some(name) = signal_name(signal) {
                put("signal_name", Value::Text(name));
            }
        }
        put("core_dumped", Value::Bool(self.dumped_core()));
        put("process_ended", Value::Bool(self.process_ended));
    }
}

/// A thread got another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessRename {
    /// The thread that did it.
    pub origin: Origin,
    /// Process of the thread that has the new name.
    pub renamed_tgid: Tgid,
    /// The thread that has the new name.
    pub renamed_tid: Tid,
    /// The new name.
    pub comm: Comm,
}

impl TypedEvent for ProcessRename {
    const KIND: Kind = Kind::PROCESS_RENAME;
    const NAME: &'static str = "process.rename";
    const FIELDS: &'static [Field] = &[
        Field::new("renamed_tgid", Type::U64, "process of the thread that has the new name"),
        Field::new("renamed_tid", Type::U64, "the thread that has the new name"),
        Field::new("new_comm", Type::Text, "the new name"),
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::ProcessRename = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            renamed_tgid: Tgid(body.renamed_tgid),
            renamed_tid: Tid(body.renamed_tid),
            comm: Comm::new(body.comm),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("renamed_tgid", Value::U64(self.renamed_tgid.0.into()));
        put("renamed_tid", Value::U64(self.renamed_tid.0.into()));
        put("new_comm", Value::Text(&self.comm.to_text()));
    }
}
