/// The container that a cgroup belongs to, by the cgroup's path: the id the runtime gave it (64 hexadecimal digits with
/// Docker, containerd, CRI-O and Podman), or the name of a machine of LXC or systemd-nspawn. Of nested containers it is the
/// innermost one. `None` for a cgroup that is in no container; that of a Kubernetes pod without a container is none.
///
/// ```
/// use kprobe_core::process::container_of;
///
/// assert_eq!(container_of("/lxc.payload.web/system.slice/nginx.service"), Some("web"));
/// assert_eq!(container_of("/system.slice/nginx.service"), None);
/// ```
#[must_use]
pub fn container_of(path: &str) -> Option<&str> {
    let mut parts = path.trim_end_matches('\n').split('/').rev().peekable();
    while let Some(part) = parts.next() {
        let found = match parts.peek() {
            // LXC before 4.0 puts each container below one common cgroup.
            Some(&("lxc" | "lxc.payload")) if !part.is_empty() => Some(part),
            Some(&("buildkit" | "containerd-buildkit")) if is_buildkit_id(part) => Some(part),
            _ => None,
        };
        if let Some(id) = found.or_else(|| in_part(part)) {
            return Some(id);
        }
    }
    None
}

/// The container that one part of a path names.
fn in_part(part: &str) -> Option<&str> {
    if part.contains("-conmon-") {
        // Podman's and CRI-O's monitors have cgroups of their own, outside of the container.
        return None;
    }
    if let Some(machine) = part.strip_prefix("lxc.payload.") {
        return Some(machine);
    }
    if let Some(machine) = part.strip_prefix("systemd-nspawn@").and_then(|part| part.strip_suffix(".service"))
    {
        return Some(machine);
    }
    let unit = part.strip_suffix(".scope").unwrap_or(part);
    if unit.len() != part.len()
        && let Some(machine) = unit.strip_prefix("machine-")
    {
        // `machine-qemu\x2d1\x2dname.scope` is a virtual machine, not a container.
        return (!machine.starts_with("qemu\\x2d")).then_some(machine);
    }
    // `docker-ID.scope`, `cri-containerd-ID.scope`, `kubepods-...:cri-containerd:ID`, or the id alone.
    let id = unit.rsplit(['-', ':']).next()?;
    if is_id(id) {
        return Some(id);
    }
    is_fargate_id(unit).then_some(unit)
}

/// What runtimes call a container: SHA-256 in hexadecimal.
fn is_id(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

/// ECS on Fargate: the task's id, a hyphen, a number.
fn is_fargate_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(task, number)| {
        task.len() == 32 && is_hex(task) && number.len() >= 9 && number.bytes().all(|b| b.is_ascii_digit())
    })
}

fn is_buildkit_id(text: &str) -> bool {
    text.len() == 25 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::container_of;

    const A: &str = "4f1c0d9e7b2a86533c1e90ab7d64f2250e8b9c37a1d5f0468e2c7b319a60d5f8";
    const B: &str = "b07e5a2194c8d36f0e1b7a95d28c4f63a9170e5b3d86c2f4817ea05d9b3c6f21";

    /// Checks each path; `{A}` and `{B}` stand for ids, and so does what is expected.
    fn check(cases: &[(&str, Option<&str>)]) {
        for (path, expected) in cases {
            let path = path.replace("{A}", A).replace("{B}", B);
            let expected = expected.map(|id| id.replace("{A}", A).replace("{B}", B));
            assert_eq!(container_of(&path), expected.as_deref(), "{path}");
        }
    }

    #[test]
    fn docker() {
        check(&[
            ("/docker/{A}", Some("{A}")),
            ("/system.slice/docker-{A}.scope", Some("{A}")),
            ("/system.slice/docker-{A}.scope/init.scope", Some("{A}")),
            ("/docker/{A}/system.slice/nginx.service", Some("{A}")),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{A}.scope", Some("{A}")),
            ("/sys/fs/cgroup/system.slice/docker-{A}.scope\n", Some("{A}")),
            ("/system.slice/docker.service", None),
            (
                "/system.slice/docker.service/docker/buildkit/qxk4bq2mcl0v7tfd8ey1u3zps",
                Some("qxk4bq2mcl0v7tfd8ey1u3zps"),
            ),
            ("/ecs/0d1e2f3a4b5c6d7e8f90a1b2c3d4e5f6/{A}", Some("{A}")),
            (
                "/ecs/0d1e2f3a4b5c6d7e8f90a1b2c3d4e5f6/0d1e2f3a4b5c6d7e8f90a1b2c3d4e5f6-1234567890",
                Some("0d1e2f3a4b5c6d7e8f90a1b2c3d4e5f6-1234567890"),
            ),
        ]);
    }

    #[test]
    fn kubernetes() {
        let pod = "pod7a3f9c12_0b4e_4d2a_9f31_6c8d5e7b2a10";
        let slice = format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{pod}.slice");
        let slice = slice.as_str();
        let plain = "/kubepods/besteffort/pod7a3f9c12-0b4e-4d2a-9f31-6c8d5e7b2a10";
        check(&[
            (&format!("{slice}/cri-containerd-{{A}}.scope"), Some("{A}")),
            (&format!("{slice}/crio-{{A}}.scope"), Some("{A}")),
            (&format!("{slice}/crio-{{A}}.scope/container"), Some("{A}")),
            (&format!("{slice}/docker-{{A}}.scope"), Some("{A}")),
            (&format!("{slice}/crio-conmon-{{A}}.scope"), None),
            (slice, None),
            (&format!("{plain}/{{A}}"), Some("{A}")),
            (&format!("{plain}/crio-{{A}}"), Some("{A}")),
            (plain, None),
            ("/kubepods/pod7a3f9c12-0b4e-4d2a-9f31-6c8d5e7b2a10/{A}", Some("{A}")),
            (
                &format!(
                    "/system.slice/containerd.service/kubepods-burstable-{pod}.slice:cri-containerd:{{A}}"
                ),
                Some("{A}"),
            ),
            (
                &format!(
                    "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-{pod}.slice/cri-containerd-{{B}}.scope"
                ),
                Some("{B}"),
            ),
            ("/kubepods.slice", None),
            ("/system.slice/kubelet.service", None),
        ]);
    }

    #[test]
    fn containerd_and_podman() {
        check(&[
            ("/default/{A}", Some("{A}")),
            ("/system.slice/nerdctl-{A}.scope", Some("{A}")),
            ("/machine.slice/libpod-{A}.scope", Some("{A}")),
            ("/machine.slice/libpod-{A}.scope/container", Some("{A}")),
            ("/machine.slice/libpod-conmon-{A}.scope", None),
            ("/libpod_parent/libpod-{A}", Some("{A}")),
            ("/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope/container", Some("{A}")),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope/container",
                Some("{A}"),
            ),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/user-libpod_pod_{B}.slice", None),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/podman-4242.scope", None),
        ]);
    }

    #[test]
    fn machines() {
        check(&[
            ("/lxc/web", Some("web")),
            ("/lxc/web/system.slice/ssh.service", Some("web")),
            ("/lxc.payload/web/init.scope", Some("web")),
            ("/lxc.payload.web", Some("web")),
            ("/lxc.payload.web-2.example/user.slice", Some("web-2.example")),
            ("/lxc.monitor.web", None),
            ("/lxc.monitor/web", None),
            ("/machine.slice/systemd-nspawn@debian.service/payload/init.scope", Some("debian")),
            ("/machine.slice/machine-debian.scope/payload", Some("debian")),
            (r"/machine.slice/machine-build\x2darm.scope", Some(r"build\x2darm")),
            (r"/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt/vcpu0", None),
            ("/machine.slice", None),
        ]);
    }

    #[test]
    fn nested() {
        check(&[
            ("/docker/{A}/docker/{B}", Some("{B}")),
            ("/docker/{A}/kubelet/kubepods/burstable/pod7a3f9c12/{B}", Some("{B}")),
            ("/docker/{A}/kubelet.slice/kubelet-kubepods.slice", Some("{A}")),
            ("/lxc.payload.web/system.slice/docker-{A}.scope", Some("{A}")),
            ("/machine.slice/systemd-nspawn@host.service/payload/lxc/inner", Some("inner")),
            ("/lxc/outer/lxc/inner", Some("inner")),
        ]);
    }

    #[test]
    fn in_no_container() {
        check(&[
            ("", None),
            ("/", None),
            ("/init.scope", None),
            ("/user.slice/user-1000.slice/session-3.scope", None),
            ("/system.slice/system-getty.slice/getty@tty1.service", None),
            ("/../../{A}", Some("{A}")),
            ("/lxc/", None),
            ("/docker/4f1c0d9e7b2a", None),
            ("/docker/4F1C0D9E7B2A86533C1E90AB7D64F2250E8B9C37A1D5F0468E2C7B319A60D5F8", None),
            ("/app.slice/app-{A}x.scope", None),
        ]);
    }
}
