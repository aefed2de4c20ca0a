//! How the files of a spill are called.

/// Every file of ours begins with it.
const OURS: &str = "kprobe-spill";
pub(super) const LOCK: &str = "kprobe-spill.lock";
pub(super) const ACK: &str = "kprobe-spill.ack";
const SEGMENT: &str = ".seg";
const ASIDE: &str = ".aside";

pub(super) fn segment(first: u64) -> String {
    format!("{OURS}-{first:020}{SEGMENT}")
}

/// The number of the first batch, if it is the name of a segment.
pub(super) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(OURS)?.strip_prefix('-')?.strip_suffix(SEGMENT)?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// One of ours, whatever is in it.
pub(super) fn is_ours(name: &str) -> bool {
    let aside = || {
        let (segment, number) = name.rsplit_once(ASIDE)?;
        first_of(segment)?;
        (number.is_empty() || number.strip_prefix('.')?.parse::<u32>().is_ok()).then_some(())
    };
    name == LOCK || name == ACK || first_of(name).is_some() || aside().is_some()
}

/// A name for the file `name` to be put aside under, that none of `taken` has.
pub(super) fn aside(name: &str, taken: &[(String, u64)]) -> String {
    let is_free = |name: &String| taken.iter().all(|(other, _)| other != name);
    let numbered = (1_u32..).map(|number| format!("{name}{ASIDE}.{number}"));
    let mut names = std::iter::once(format!("{name}{ASIDE}")).chain(numbered);
    names.find(is_free).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{aside, first_of, is_ours, segment};

    #[test]
    fn ours_and_others() {
        assert_eq!(first_of(&segment(0)), Some(0));
        assert_eq!(first_of(&segment(u64::MAX)), Some(u64::MAX));
        let name = segment(7);
        assert_eq!(name, "kprobe-spill-00000000000000000007.seg");
        let put = [format!("{name}.aside"), format!("{name}.aside.1")];
        let taken: Vec<_> = put.iter().map(|name| (name.clone(), 0)).collect();
        assert_eq!(aside(&name, &[]), put[0]);
        assert_eq!(aside(&name, &taken), format!("{name}.aside.2"));
        for ours in ["kprobe-spill.lock", "kprobe-spill.ack", &name, &put[0], &put[1]] {
            assert!(is_ours(ours), "{ours}");
        }
        let others = [
            "",
            "kprobe-spill",
            "kprobe-spill-7.seg",
            "kprobe-spill-99999999999999999999.seg",
            "kprobe-spill-+0000000000000000007.seg",
            "kprobe-spill-00000000000000000007.seg~",
            "kprobe-spill-00000000000000000007.seg.aside.x",
            "notes.aside",
        ];
        for other in others {
            assert!(!is_ours(other), "{other}");
            assert_eq!(first_of(other), None, "{other}");
        }
    }
}
