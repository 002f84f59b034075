//! The profile as files for other tools: sysctl.d, limits.d, a systemd drop-in. Text only.

use std::fmt::Write;

use super::items::Given;
use super::needs;

/// Which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For /etc/sysctl.d.
    Sysctl,
    /// For /etc/security/limits.d.
    Limits,
    /// A drop-in for a service's unit.
    Systemd,
}

/// Makes the file's text for this host and plan.
pub fn text(given: &Given<'_>, format: Format) -> String {
    match format {
        Format::Sysctl => sysctl(given),
        Format::Limits => limits(given),
        Format::Systemd => systemd(given),
    }
}

fn head(given: &Given<'_>, place: &str) -> String {
    format!(
        "# {place}\n# Made by: reporter preflight, for {} connections, role {}.\n",
        given.plan.connections,
        given.plan.role.name()
    )
}

/// A `-` before a name lets the loader go on where a module is not loaded.
fn sysctl(given: &Given<'_>) -> String {
    let mut out = head(given, "/etc/sysctl.d/90-mcp-load.conf, load with: sysctl --system");
    for wanted in given.profile.for_role(given.plan.role) {
        let value = given.wanted(&wanted.key);
        let value = match given.host.text(&wanted.key) {
            Some(actual) => wanted.rule.combine(actual, &value),
            None => value,
        };
        let _ = write!(
            out,
            "\n# {}\n# ({})\n-{} = {value}\n",
            wanted.reason, wanted.source, wanted.key
        );
    }
    out
}

/// The descriptor limit that both the profile and the plan are content with.
fn nofile(given: &Given<'_>) -> u64 {
    let replicas = u64::from(given.plan.replicas.max(1));
    let need = needs::limit_needed(given.plan.connections, replicas);
    let need = if given.plan.role.serves() { need } else { 0 };
    given.profile.limits.nofile.max(need)
}

fn limits(given: &Given<'_>) -> String {
    let l = &given.profile.limits;
    let mut out = head(given, "/etc/security/limits.d/90-mcp-load.conf, for new logins");
    // "*" does not include root (limits.conf(5)).
    for (name, value, reason, source) in [
        ("nofile", nofile(given), &l.nofile_reason, &l.nofile_source),
        ("memlock", l.memlock / 1024, &l.memlock_reason, &l.memlock_source),
    ] {
        let _ = writeln!(out, "\n# {reason}\n# ({source})");
        for who in ["*", "root"] {
            let _ = writeln!(out, "{who:<5} -  {name:<8} {value}");
        }
    }
    out
}

fn systemd(given: &Given<'_>) -> String {
    let l = &given.profile.limits;
    let mut out =
        head(given, "/etc/systemd/system/NAME.service.d/90-mcp-load.conf, then: daemon-reload");
    let _ = write!(
        out,
        "[Service]\n# {}\nLimitNOFILE={}\n# {}\nLimitMEMLOCK={}\nTasksMax=infinity\n",
        l.nofile_reason,
        nofile(given),
        l.memlock_reason,
        l.memlock
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::fake::{host, set};
    use crate::preflight::plan::{Plan, Role};
    use crate::preflight::profile::Profile;

    fn make(plan: &Plan, format: Format) -> String {
        let mut host = host();
        set(&mut host, "net.core.somaxconn", "70000");
        let profile = Profile::built_in();
        text(&Given { plan, host: &host, profile: &profile }, format)
    }

    #[test]
    fn sysctl_lines_keep_what_the_host_has_more_of() {
        let text = make(&Plan::default(), Format::Sysctl);
        assert!(text.contains("\n-net.core.somaxconn = 70000\n"), "{text}");
        assert!(text.contains("\n-net.ipv4.ip_local_port_range = 1024 65535\n"), "{text}");
        for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            assert!(line.starts_with('-') && line.contains(" = "), "{line}");
        }
    }

    #[test]
    fn a_role_gets_only_its_own_settings() {
        let plan = Plan { role: Role::Generator, ..Plan::default() };
        let text = make(&plan, Format::Sysctl);
        assert!(!text.contains("somaxconn") && text.contains("ip_local_port_range"));
    }

    #[test]
    fn a_large_plan_raises_the_descriptor_limit() {
        let plan = Plan { connections: 3_000_000, replicas: 2, ..Plan::default() };
        assert!(make(&plan, Format::Systemd).contains("LimitNOFILE=1500064\n"));
        let text = make(&plan, Format::Limits);
        assert!(text.contains("*     -  nofile   1500064\nroot  -  nofile   1500064\n"), "{text}");
    }
}
