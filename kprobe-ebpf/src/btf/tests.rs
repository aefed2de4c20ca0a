#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::builder::BtfBuilder;
use super::*;

/// A little kernel: the shapes that the loader asks for.
fn small_kernel(with_status: bool) -> Vec<u8> {
    let mut b = BtfBuilder::new();
    let int = b.int("int", 4);
    let long = b.int("unsigned long", 8);
    let byte = b.int("char", 1);
    let u32_ = b.typedef("u32", int);
    let fields: &[_] =
        if with_status { &[("flags", long, 0), ("status", u32_, 8)] } else { &[("flags", long, 0)] };
    let info = b.structure("thread_info", 16, fields);
    let constant_info = b.constant(info);
    let comm = b.array(byte, 16);
    let inner = b.union("", 8, &[("word", long), ("half", u32_)]);
    let middle = b.structure("", 16, &[("", inner, 0), ("after", long, 8)]);
    let pids = b.array(middle, 3);
    let task = b.structure(
        "task_struct",
        100,
        &[
            ("thread_info", constant_info, 0),
            ("", middle, 16),
            ("comm", comm, 32),
            ("pids", pids, 48),
            ("next", int, 96),
        ],
    );
    let flexible = b.array(task, 0);
    b.structure("cgroup", 8, &[("level", int, 0), ("ancestors", flexible, 8)]);
    b.bitfields(
        "bits",
        8,
        &[("low", int, 0, 3), ("high", int, 35, 10), ("plain", int, 32, 0), ("across", int, 28, 8)],
    );
    let target = b.ptr(task);
    let void = b.ptr(TypeId::VOID);
    let proto = b.func_proto(TypeId::VOID, &[("", void), ("preempt", byte), ("", target)]);
    let pointer = b.ptr(proto);
    b.typedef("btf_trace_sched_switch", pointer);
    b.var("__preempt_count", int);
    b.blob()
}

fn at(byte_offset: u32, size: u32, of: TypeId) -> Member {
    Member { byte_offset, size, bitfield: None, of }
}

#[test]
fn members_are_found_through_all_that_hides_them() {
    let btf = Btf::parse(&small_kernel(true)).unwrap();
    let find = |path| btf.member_offset("task_struct", path).map(|found| (found.byte_offset, found.size));
    assert_eq!(find("thread_info"), Ok((0, 16)));
    assert_eq!(find("thread_info.status"), Ok((8, 4)));
    assert_eq!(find("half"), Ok((16, 4)));
    assert_eq!(find("after"), Ok((24, 8)));
    assert_eq!(find("comm"), Ok((32, 16)));
    assert_eq!(find("comm[3]"), Ok((35, 1)));
    assert_eq!(find("pids.after"), Ok((56, 8)));
    assert_eq!(find("pids[2].after"), Ok((88, 8)));
    let ancestors = btf.member_offset("cgroup", "ancestors").unwrap();
    assert_eq!((ancestors.byte_offset, ancestors.size), (8, 0));
    assert_eq!(btf.member_offset("cgroup", "ancestors[2].comm").unwrap().byte_offset, 8 + 200 + 32);
    assert_eq!(btf.struct_size("task_struct"), Ok(100));
}

#[test]
fn what_is_missing_is_said_exactly() {
    let btf = Btf::parse(&small_kernel(false)).unwrap();
    let says = |structure, path| btf.member_offset(structure, path).unwrap_err().to_string();
    assert_eq!(says("task", "pid"), "no struct task");
    assert_eq!(says("task_struct", "pid"), "struct task_struct has no field pid");
    assert_eq!(
        says("task_struct", "thread_info.status"),
        "struct thread_info has no field status (in thread_info.status)"
    );
    assert_eq!(
        says("task_struct", "next.pid"),
        "field next (in next.pid) is int, not a struct, so it has no field pid"
    );
    assert_eq!(
        says("task_struct", "comm[16]"),
        "field comm (in comm[16]) is char [16]: it has no element 16"
    );
    assert_eq!(says("task_struct", "next[0]"), "field next (in next[0]) is int: it has no element 0");
    for path in ["", ".", "a..b", "comm[", "comm[]", "comm[x]", "[0]", "comm[0][1]", "comm]"] {
        let error = btf.member_offset("task_struct", path).unwrap_err();
        assert_eq!(error, MissingMember::Path { path: path.into() });
    }
}

#[test]
fn bitfields_come_with_the_integer_to_load() {
    let btf = Btf::parse(&small_kernel(true)).unwrap();
    let find = |path| btf.member_offset("bits", path).unwrap();
    let bits = |shift, width| Some(Bitfield { shift, width });
    assert_eq!(find("low"), Member { bitfield: bits(0, 3), ..at(0, 4, TypeId(1)) });
    assert_eq!(find("high"), Member { bitfield: bits(3, 10), ..at(4, 4, TypeId(1)) });
    assert_eq!(find("plain"), at(4, 4, TypeId(1)));
    assert_eq!(find("across"), Member { bitfield: bits(28, 8), ..at(0, 8, TypeId(1)) });
}

#[test]
fn bitfields_of_old_compilers_are_in_the_integer_type() {
    let mut b = BtfBuilder::new();
    let five_bits_at_2 = b.raw("unsigned int", 1 << 24, 4, &[2 << 16 | 5]);
    b.structure("old", 8, &[("field", five_bits_at_2, 4)]);
    let found = Btf::parse(&b.blob()).unwrap().member_offset("old", "field").unwrap();
    let bitfield = Some(Bitfield { shift: 2, width: 5 });
    assert_eq!(found, Member { bitfield, ..at(4, 4, five_bits_at_2) });
}

#[test]
fn tracepoints_variables_and_constants() {
    let btf = Btf::parse(&small_kernel(true)).unwrap();
    let params = btf.func_proto_params("btf_trace_sched_switch").unwrap();
    let shown: Vec<_> = params.iter().map(|param| (&*param.name, &*param.type_name)).collect();
    assert_eq!(shown, [("", "void *"), ("preempt", "char"), ("", "struct task_struct *")]);
    assert_eq!(btf.func_proto_params("btf_trace_x").unwrap_err().to_string(), "no typedef btf_trace_x");
    assert_eq!(
        btf.func_proto_params("u32").unwrap_err().to_string(),
        "u32 is int, expected a typedef of a pointer to a function"
    );
    let var = btf.var_id("__preempt_count").unwrap();
    assert_eq!(btf.name(var), Some("__preempt_count"));
    assert_eq!(btf.var_type(var).and_then(|of| btf.size_of(of)), Some(4));
    assert_eq!(btf.var_id("preempt_count"), None);
    assert_eq!(btf.var_id("task_struct"), None);
}

#[test]
fn every_kind_is_read() {
    let mut b = BtfBuilder::new();
    let int = b.int("int", 4);
    let (red, blue) = (b.name("RED"), b.name("BLUE"));
    b.raw("color", 6 << 24 | 2, 4, &[red, 1, blue, u32::MAX]);
    b.raw("signed_color", 1 << 31 | 6 << 24 | 1, 4, &[blue, u32::MAX]);
    b.raw("wide", 19 << 24 | 1, 8, &[red, 7, 1]);
    let forward = b.raw("later", 7 << 24, 0, &[]);
    let volatile = b.raw("", 9 << 24, int.0, &[]);
    let constant = b.constant(volatile);
    b.raw("", 11 << 24, constant.0, &[]);
    let pointer = b.ptr(forward);
    let constant_pointer = b.constant(pointer);
    let proto = b.func_proto(int, &[("", int)]);
    let func = b.raw("run", 12 << 24, proto.0, &[]);
    let var = b.var("counter", int);
    b.raw(".data", 15 << 24 | 1, 4, &[var.0, 0, 4]);
    b.raw("double", 16 << 24, 8, &[]);
    b.raw("mark", 17 << 24, var.0, &[u32::MAX]);
    let tag = b.raw("user", 18 << 24, int.0, &[]);
    let tagged = b.ptr(tag);
    let row = b.array(int, 2);
    let grid = b.array(row, 3);
    b.union("either", 8, &[("a", int), ("b", grid)]);
    let btf = Btf::parse(&b.blob()).unwrap();

    assert_eq!(btf.enum_value("color", "RED"), Ok(1));
    assert_eq!(btf.enum_value("color", "BLUE"), Ok(i64::from(u32::MAX)));
    assert_eq!(btf.enum_value("signed_color", "BLUE"), Ok(-1));
    assert_eq!(btf.enum_value("wide", "RED"), Ok(1 << 32 | 7));
    assert_eq!(btf.enum_value("color", "GREEN").unwrap_err().to_string(), "no constant GREEN in enum color");
    assert_eq!(btf.type_name(constant), "const volatile int");
    assert_eq!(btf.type_name(constant_pointer), "struct later * const");
    assert_eq!(btf.type_name(tagged), "int *");
    assert_eq!(btf.type_name(grid), "int [3][2]");
    assert_eq!(btf.size_of(grid), Some(24));
    assert_eq!(btf.size_of(constant), Some(4));
    assert_eq!((btf.size_of(forward), btf.size_of(func), btf.size_of(TypeId::VOID)), (None, None, None));
    assert_eq!(btf.size_of(TypeId(9999)), None);
    assert_eq!(btf.member_offset("either", "b[2]").unwrap(), at(16, 8, row));
    assert_eq!(btf.len(), 21);
}

#[test]
fn members_are_listed_for_layout_tests() {
    let btf = Btf::parse(&small_kernel(true)).unwrap();
    let ids: Vec<_> = btf.structs_named("thread_info").collect();
    assert_eq!(ids, [btf.struct_id("thread_info").unwrap()]);
    let fields = btf.members(ids[0]).unwrap();
    let shown: Vec<_> = fields.iter().map(|f| (f.name, f.member.byte_offset, f.member.size)).collect();
    assert_eq!(shown, [("flags", 0, 8), ("status", 8, 4)]);
    assert!(btf.members(TypeId(1)).is_err());
}

#[test]
fn a_kind_of_the_future_is_skipped_if_the_blob_explains_it() {
    let mut b = BtfBuilder::new();
    b.int("int", 4);
    b.raw("novel", 20 << 24 | 2, 0, &[1, 2, 3, 4, 5]);
    let last = b.int("long", 8);
    let refused = Btf::parse(&b.blob()).unwrap_err();
    assert!(matches!(refused, BtfError::Kind { id: 2, found: 20, expected: 19, offset: 40 }), "{refused}");
    let mut table = vec![(0, 0); 20];
    table.push((4, 8));
    b.kinds(&table);
    let btf = Btf::parse(&b.blob()).unwrap();
    assert_eq!((btf.len(), btf.name(last)), (3, Some("long")));
}

#[test]
fn broken_blobs_are_refused_with_evidence() {
    let good = small_kernel(true);
    let says = |blob: &[u8]| Btf::parse(blob).unwrap_err().to_string();
    let with = |at: usize, byte: u8| {
        let mut blob = good.clone();
        blob[at] = byte;
        blob
    };
    assert_eq!(says(&[]), "BTF ends inside the magic number: 2 bytes were expected at offset 0, 0 are there");
    assert_eq!(
        says(&with(0, 0)),
        "not BTF that can be read: the magic number at offset 0 should be 0xeb9f, found 0xeb00"
    );
    assert_eq!(says(&with(2, 9)), "not BTF that can be read: the version at offset 2 should be 1, found 0x9");
    assert_eq!(
        says(&with(4, 8)),
        "not BTF that can be read: the header length at offset 4 should be 24 or more, found 0x8"
    );
    let mut swapped = good.clone();
    swapped[..2].copy_from_slice(&[0xeb, 0x9f]);
    assert!(says(&swapped).contains("byte-swapped"));
    assert!(says(&with(24 + 3, 1)).starts_with("BTF name at offset 24 points to 0x1000001"));
    assert!(says(&with(24 + 7, 0)).starts_with("BTF type 1 at offset 24 has kind 0"));
    let last = good.len() - 1;
    assert!(says(&with(last, b'x')).contains("begins and ends with a zero byte"));
    assert!(says(&good[..last]).starts_with("BTF ends inside the strings"));

    let mut b = BtfBuilder::new();
    b.ptr(TypeId(7));
    assert_eq!(says(&b.blob()), "BTF reference at offset 32 is to type 7, the last type is 1");
    let mut b = BtfBuilder::new();
    b.raw("huge", 4 << 24 | 0xff_ffff, 8, &[]);
    assert!(says(&b.blob()).starts_with("BTF ends inside the members of a struct: 201326580 bytes"));
}

#[test]
fn endless_types_end() {
    let mut b = BtfBuilder::new();
    b.typedef("loop", TypeId(1));
    b.array(TypeId(2), 2);
    let own = TypeId(3);
    b.structure("own", 8, &[("", own, 0), ("", own, 0), ("x", TypeId(1), 0)]);
    // A hundred anonymous structs, each twice in the one before: 2^100 paths.
    for level in 4..104 {
        b.structure("deep", 8, &[("", TypeId(level + 1), 0), ("", TypeId(level + 1), 0)]);
    }
    b.int("int", 4);
    let btf = Btf::parse(&b.blob()).unwrap();
    assert_eq!(btf.size_of(TypeId(1)), None);
    assert_eq!(btf.size_of(TypeId(2)), None);
    assert_eq!(btf.type_name(TypeId(2)).matches("[2]").count(), 32);
    for (structure, path) in [("own", "y"), ("own", "x"), ("deep", "x")] {
        let error = btf.member_offset(structure, path).unwrap_err();
        assert!(matches!(error, MissingMember::Nonsense { .. }), "{error}");
    }
    assert!(btf.func_proto_params("loop").is_err());
}

#[test]
fn the_running_kernel() {
    let btf = match Btf::kernel() {
        Ok(btf) => btf,
        Err(BtfError::Absent { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let pid = btf.member_offset("task_struct", "pid").unwrap();
    let tgid = btf.member_offset("task_struct", "tgid").unwrap();
    assert_eq!((pid.size, tgid.byte_offset), (4, pid.byte_offset + 4));
    assert_eq!(btf.member_offset("task_struct", "comm").unwrap().size, 16);
    assert_eq!(btf.member_offset("task_struct", "start_boottime").unwrap().size, 8);
    assert!(
        btf.member_offset("cgroup", "ancestors").is_ok()
            || btf.member_offset("cgroup", "ancestor_ids").is_ok()
    );
    assert!(btf.struct_size("task_struct").unwrap() > tgid.byte_offset);
    assert_eq!(btf.enum_value("bpf_map_type", "BPF_MAP_TYPE_RINGBUF"), Ok(27));
    let params = btf.func_proto_params("btf_trace_sched_switch").unwrap();
    let types: Vec<_> = params.iter().map(|param| &*param.type_name).collect();
    assert_eq!(types[..2], ["void *", "bool"]);
    assert!(types.iter().filter(|name| **name == "struct task_struct *").count() == 2, "{types:?}");
    assert!(matches!(btf.member_offset("task_struct", "no_such"), Err(MissingMember::NoField { .. })));
}

#[test]
fn a_missing_file_names_the_kernel_option() {
    let error = Btf::read(std::path::Path::new("/nonexistent/vmlinux")).unwrap_err();
    assert!(error.to_string().contains("CONFIG_DEBUG_INFO_BTF"), "{error}");
}

#[test]
fn sections_of_this_very_program() {
    let own = std::fs::read("/proc/self/exe").unwrap();
    let names = elf_section(&own, ".shstrtab").unwrap();
    assert!(names.windows(6).any(|text| text == b".text\0"));
    assert_eq!(elf_section(&own, ".BTF.none"), None);
    assert_eq!(elf_section(b"\x7fELF", ".BTF"), None);
}

/// Whatever was parsed can be asked anything.
fn ask_everything(btf: &Btf) {
    for number in 0..=u32::try_from(btf.len()).unwrap() + 1 {
        let id = TypeId(number);
        let _ = (btf.type_name(id), btf.size_of(id));
        let _ = btf.members(id);
        if let Some(name) = btf.name(id) {
            for path in ["thread_info.status", "pids[1].after", "a", "ancestors", "low", "x"] {
                let _ = btf.member_offset(name, path);
            }
            let _ = btf.func_proto_params(name);
            let _ = btf.enum_value(name, "x");
            let _ = btf.var_id(name);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_total(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Btf::parse(&bytes).map(|btf| ask_everything(&btf));
        let _ = elf_section(&bytes, ".BTF");
    }

    #[test]
    fn any_types_are_total(words in proptest::collection::vec(prop_oneof![0_u32..40, (0_u32..20, 0_u32..4).prop_map(|(kind, len)| kind << 24 | len), any::<u32>()], 0..200)) {
        let mut blob = vec![];
        let len = u32::try_from(words.len() * 4).unwrap();
        for word in [0x0001_eb9f, 24, 0, len, len, 9].iter().chain(&words) {
            blob.extend_from_slice(&word.to_le_bytes());
        }
        blob.extend_from_slice(b"\0a\0low\0x\0");
        let _ = Btf::parse(&blob).map(|btf| ask_everything(&btf));
    }

    #[test]
    fn mutations_are_total(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>()) {
        let mut blob = small_kernel(true);
        for (at, byte) in changes {
            let at = at.index(blob.len());
            blob[at] = byte;
        }
        let _ = Btf::parse(&blob).map(|btf| ask_everything(&btf));
        blob.truncate(cut.index(blob.len()));
        let _ = Btf::parse(&blob).map(|btf| ask_everything(&btf));
    }

    #[test]
    fn mutated_elf_files_are_total(changes in proptest::collection::vec((0_usize..64, any::<u8>()), 0..8)) {
        let mut elf = vec![0; 512];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        for (at, byte) in changes {
            elf[at] = byte;
        }
        let _ = elf_section(&elf, ".BTF");
    }
}
