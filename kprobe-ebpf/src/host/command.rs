//! Finding a command before it is started, so that starting it is exactly one `execve`.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

/// Where programs are looked for if `PATH` is not set, as the C library does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A command cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// No such program.
    #[error("command {program:?} not found{}", if *.searched { " in PATH" } else { "" })]
    NotFound {
        /// What was asked for.
        program: PathBuf,
        /// It has no slash, so it was looked for in `PATH`.
        searched: bool,
    },
    /// There is one, but it cannot be executed.
    #[error("command {} cannot be executed: {source}", path.display())]
    NotExecutable {
        /// The file that was found.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl CommandError {
    /// What shells, `env` and `timeout` exit with: 127 if it was not found, 126 if it cannot be executed.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
        }
    }
}

/// The file that `execvp` would execute: `program` itself if it has a slash, else the first in `PATH` that can be.
///
/// # Errors
///
/// [`CommandError`], whose [`exit_code`](CommandError::exit_code) is what to exit with.
pub fn resolve(program: impl AsRef<OsStr>) -> Result<PathBuf, CommandError> {
    resolve_in(program.as_ref(), env::var_os("PATH").as_deref().unwrap_or(OsStr::new(DEFAULT_PATH)))
}

fn resolve_in(program: &OsStr, path: &OsStr) -> Result<PathBuf, CommandError> {
    let not_found = |searched| CommandError::NotFound { program: program.into(), searched };
    if program.as_bytes().contains(&b'/') {
        return match executable(Path::new(program)) {
            Ok(()) => Ok(program.into()),
            Err(error) if is_absent(&error) => Err(not_found(false)),
            Err(source) => Err(CommandError::NotExecutable { path: program.into(), source }),
        };
    }
    if program.is_empty() {
        return Err(not_found(true));
    }
    let mut denied = None;
    for directory in path.as_bytes().split(|byte| *byte == b':') {
        // An empty entry is the current directory; without `./` the result would be searched for again.
        let directory = if directory.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(directory) };
        let candidate = Path::new(directory).join(program);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if is_absent(&error) => {}
            Err(source) => denied = denied.or(Some(CommandError::NotExecutable { path: candidate, source })),
        }
    }
    Err(denied.unwrap_or_else(|| not_found(true)))
}

/// What `execve` checks before it reads the file, as the effective user.
fn executable(path: &Path) -> io::Result<()> {
    let found = std::fs::metadata(path)?;
    if found.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    if !found.is_file() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not a regular file"));
    }
    Ok(accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        }

        fn path(&self, directories: &[&str]) -> std::ffi::OsString {
            env::join_paths(directories.iter().map(|name| self.0.path().join(name))).unwrap()
        }
    }

    #[test]
    fn the_first_executable_in_path_wins() {
        let tree = Tree::new();
        tree.file("a/tool", 0o644);
        fs::create_dir_all(tree.0.path().join("b/tool")).unwrap();
        let wanted = tree.file("c/tool", 0o755);
        tree.file("d/tool", 0o755);
        let path = tree.path(&["none", "a", "a/tool", "b", "c", "d"]);
        assert_eq!(resolve_in("tool".as_ref(), &path).unwrap(), wanted);
    }

    #[test]
    fn found_but_not_executable_is_126() {
        let tree = Tree::new();
        let plain = tree.file("a/tool", 0o644);
        for (program, path) in
            [(OsStr::new("tool"), tree.path(&["none", "a"])), (plain.as_os_str(), "".into())]
        {
            let error = resolve_in(program, &path).unwrap_err();
            assert_eq!(error.exit_code(), 126);
            let expected =
                format!("command {} cannot be executed: Permission denied (os error 13)", plain.display());
            assert_eq!(error.to_string(), expected);
        }
        let error = resolve_in(tree.0.path().as_os_str(), OsStr::new("")).unwrap_err();
        assert_eq!(error.exit_code(), 126);
        assert!(error.to_string().ends_with("it is a directory"), "{error}");
    }

    #[test]
    fn not_found_is_127() {
        let tree = Tree::new();
        let own = tree.file("a/tool", 0o755);
        let behind = own.join("more");
        let path = tree.path(&["a"]);
        let cases =
            [("other", " in PATH"), ("", " in PATH"), ("/none/tool", ""), (behind.to_str().unwrap(), "")];
        for (program, place) in cases {
            let error = resolve_in(program.as_ref(), &path).unwrap_err();
            assert_eq!(error.exit_code(), 127, "{program}");
            assert_eq!(error.to_string(), format!("command {program:?} not found{place}"));
        }
    }

    #[test]
    fn an_empty_entry_is_the_current_directory() {
        let error = resolve_in("no such tool".as_ref(), OsStr::new(":")).unwrap_err();
        assert_eq!(error.exit_code(), 127);
        // Tests run in the directory of the package, where this file is and is not executable.
        let error = resolve_in("Cargo.toml".as_ref(), OsStr::new("")).unwrap_err();
        let CommandError::NotExecutable { path, .. } = error else { panic!("{error}") };
        assert_eq!(path, Path::new("./Cargo.toml"));
    }

    #[test]
    fn sh_is_found() {
        assert!(resolve("sh").unwrap().ends_with("sh"));
    }
}
