//! The programs that are looked at.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

/// A script for `sh`, in a folder of its own that is its home.
pub struct Program {
    pub name: &'static str,
    pub needs: &'static [&'static str],
    pub script: &'static str,
    /// The calls of other programs than the shell that must be among those compared.
    pub makes: &'static [&'static str],
}

pub const PROGRAMS: [Program; 5] = [
    Program {
        name: "a_shell_script",
        needs: &["sh"],
        script: "
            for word in one two three four; do (echo $word; cat /nowhere; true) 2>/dev/null; done | sort | wc -l
            sleep 0.01 & (exit 3); wait; ls / | (read first; cat >/dev/null; echo $first) > out
            trap 'echo caught > caught' USR1; kill -USR1 $$; cat out caught",
        makes: &["execve", "pipe2", "wait4", "clock_nanosleep", "rt_sigreturn", "kill", "dup2"],
    },
    Program {
        name: "git",
        needs: &["git"],
        script: "
            git init -q tree && cd tree && git config user.email nobody@example.org && git config user.name nobody
            git config gc.auto 0 && git config maintenance.auto false
            for file in a b c; do echo $file > $file; done
            git add . && git commit -q -m first && git --no-pager log --stat && git status --short",
        makes: &["execve", "rename", "link", "unlink", "getdents64"],
    },
    Program {
        name: "python3",
        needs: &["python3"],
        script: r#"python3 -c '
import subprocess, threading, time
lock = threading.Lock()
def work(number):
    with lock: time.sleep(0.001)
    with open("/proc/self/stat") as file: file.read()
threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads: thread.start()
print(subprocess.run(["sh", "-c", "echo $0; exit 3", "child"], capture_output=True))
for thread in threads: thread.join()
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
'"#,
        makes: &["execve", "futex", "clone3", "pipe2", "wait4"],
    },
    Program {
        name: "cargo",
        needs: &["cargo", "rustc"],
        script: "
            mkdir -p package/src && cd package && echo 'fn main() {}' > src/main.rs
            printf '[package]\\nname = \"empty\"\\nversion = \"0.1.0\"\\nedition = \"2021\"\\n' > Cargo.toml
            cargo --version && cargo metadata --offline --format-version 1 >/dev/null && cargo check --offline -q",
        makes: &["execve", "futex", "clone3", "flock", "statx"],
    },
    Program {
        name: "curl",
        needs: &["curl"],
        script: "curl -sS --noproxy '*' -o body http://127.0.0.1:$PORT/ && cat body && curl -sS -o /dev/null http://127.0.0.1:1/",
        makes: &["execve", "socket", "connect", "sendto", "recvfrom", "poll"],
    },
];

/// A server of HTTP for as many requests as come; its port.
pub fn serve() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
                request.push(byte[0]);
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n")
                .unwrap();
        }
    });
    port
}
