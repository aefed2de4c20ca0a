//! What is found by name other than struct members, and how types are written.

use super::MissingType;
use super::types::{Btf, Shape, TypeId};

/// Longest chain of pointers, arrays and qualifiers that is written out.
const MAX_DEPTH: u32 = 32;

/// What a function takes and returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Its parameters.
    pub params: Vec<Param>,
    /// The type that it returns as C writes it; `void` if it returns nothing.
    pub returns: String,
}

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name; empty in most function types of kernels.
    pub name: String,
    /// Its type as C writes it, for example `struct task_struct *`.
    pub type_name: String,
    /// Its type.
    pub of: TypeId,
}

impl Btf {
    /// The parameters of a typedef of a pointer to a function, which is what describes a tracepoint: the programs that are
    /// attached to `sched_switch` get those of `btf_trace_sched_switch`, less the first, which is a `void *` of the kernel's own.
    ///
    /// # Errors
    ///
    /// If there is no such typedef (this kernel lacks the tracepoint) or it is of something else.
    pub fn func_proto_params(&self, typedef: &str) -> Result<Vec<Param>, MissingType> {
        let is_typedef = |shape: &Shape| matches!(shape, Shape::Typedef(_));
        let id = self.find(typedef, is_typedef);
        let id = id.ok_or_else(|| MissingType::NoType { what: "typedef", name: typedef.into() })?;
        let target = match self.resolve(id).map(|id| self.shape(id)) {
            Some(Shape::Ptr(of)) => self.resolve(*of),
            _ => None,
        };
        let signature = target.and_then(|id| self.signature(id)).ok_or_else(|| {
            let expected = "a typedef of a pointer to a function";
            let found = self.resolve(id).map_or_else(|| "endless".into(), |id| self.type_name(id));
            MissingType::OtherType { name: typedef.into(), expected, found }
        })?;
        Ok(signature.params)
    }

    /// What a function of the kernel takes and returns: those that programs can be attached to. One that the compiler has
    /// put into its callers is in no list, nor is one whose name it has changed.
    ///
    /// # Errors
    ///
    /// If there is no such function.
    pub fn function(&self, name: &str) -> Result<Signature, MissingType> {
        let missing = || MissingType::NoType { what: "function", name: name.into() };
        let id = self.find(name, |shape| matches!(shape, Shape::Func(_))).ok_or_else(missing)?;
        let Shape::Func(prototype) = self.shape(id) else { return Err(missing()) };
        self.signature(*prototype).ok_or_else(missing)
    }

    fn signature(&self, prototype: TypeId) -> Option<Signature> {
        let Shape::FuncProto { returns, params } = self.shape(prototype) else { return None };
        let param = |raw: &super::types::RawParam| Param {
            name: self.text(raw.name).into(),
            type_name: self.type_name(raw.of),
            of: raw.of,
        };
        let params = self.params_in(params).iter().map(param).collect();
        Some(Signature { params, returns: self.type_name(*returns) })
    }

    /// The number of a kernel variable, for example `__preempt_count`. BTF lists per-CPU variables only (and none on 5.10).
    #[must_use]
    pub fn var_id(&self, name: &str) -> Option<TypeId> {
        self.find(name, |shape| matches!(shape, Shape::Var(_)))
    }

    /// The type of a variable that [`var_id`](Self::var_id) found.
    #[must_use]
    pub fn var_type(&self, id: TypeId) -> Option<TypeId> {
        if let Shape::Var(of) = self.shape(id) { Some(*of) } else { None }
    }

    /// The value of a constant, for example `("bpf_map_type", "BPF_MAP_TYPE_TASK_STORAGE")`: a cheap way to learn what a kernel knows.
    ///
    /// # Errors
    ///
    /// If there is no such enumeration, or it does not have the constant.
    pub fn enum_value(&self, enumeration: &str, constant: &str) -> Result<i64, MissingType> {
        let id = self.find(enumeration, |shape| matches!(shape, Shape::Enum { .. }));
        let id = id.ok_or_else(|| MissingType::NoType { what: "enum", name: enumeration.into() })?;
        let Shape::Enum { constants, .. } = self.shape(id) else { return Ok(0) };
        let mut values = self.constants_in(constants).iter();
        let found = values.find(|found| self.text(found.name) == constant);
        found.map(|found| found.value).ok_or_else(|| MissingType::NoType {
            what: "constant",
            name: format!("{constant} in enum {enumeration}"),
        })
    }

    /// A type as C writes it, for messages: `struct task_struct *`, `char [16]`, `const u32`.
    #[must_use]
    pub fn type_name(&self, id: TypeId) -> String {
        self.written(id, MAX_DEPTH)
    }

    fn written(&self, id: TypeId, depth: u32) -> String {
        let Some(depth) = depth.checked_sub(1) else { return "...".into() };
        let name = self.name(id).unwrap_or("(anonymous)");
        match self.shape(id) {
            Shape::Void => "void".into(),
            Shape::Ptr(of) => {
                let target = self.written(*of, depth);
                let star = if target.ends_with('*') { "*" } else { " *" };
                target + star
            }
            Shape::Array { element, count } => {
                let count = if *count == 0 { String::new() } else { count.to_string() };
                let element = self.written(*element, depth);
                match element.find(" [") {
                    // The outermost dimension comes first.
                    Some(at) => format!("{} [{count}]{}", &element[..at], &element[at + 1..]),
                    None => format!("{element} [{count}]"),
                }
            }
            Shape::Struct { union: true, .. } | Shape::Forward { union: true } => format!("union {name}"),
            Shape::Struct { .. } | Shape::Forward { .. } => format!("struct {name}"),
            Shape::Enum { .. } => format!("enum {name}"),
            Shape::Modifier { keyword: "", of } => self.written(*of, depth),
            Shape::Modifier { keyword, of } if matches!(self.shape(*of), Shape::Ptr(_)) => {
                format!("{} {keyword}", self.written(*of, depth))
            }
            Shape::Modifier { keyword, of } => format!("{keyword} {}", self.written(*of, depth)),
            Shape::FuncProto { .. } | Shape::Func(_) => "function".into(),
            Shape::Int { .. } | Shape::Float { .. } | Shape::Typedef(_) | Shape::Var(_) => name.into(),
            Shape::DataSection | Shape::DeclTag | Shape::Unknown => name.into(),
        }
    }
}
