//! UDP that is blocked on this machine.

use std::process::Command;

/// Drops every datagram from and to one UDP port of this machine until it is dropped itself.
pub(crate) struct Cut(String);

impl Cut {
    /// Why there is none on this machine.
    pub(crate) fn missing() -> Option<String> {
        if !nix::unistd::geteuid().is_root() {
            return Some("cutting a UDP port needs root".into());
        }
        match Command::new("nft").args(["list", "tables"]).output() {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(format!("`nft` may not: {}", String::from_utf8_lossy(&output.stderr))),
            Err(error) => Some(format!("no `nft` (Debian package `nftables`): {error}")),
        }
    }

    pub(crate) fn of(port: u16) -> Self {
        Self::of_all(&[port])
    }

    /// The same for several ports.
    pub(crate) fn of_all(ports: &[u16]) -> Self {
        let cut = Self(format!("roamcast_cut_{}", ports[0]));
        let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let table = &cut.0;
        nft(&format!(
            "add table inet {table}\nadd chain inet {table} in {{ type filter hook input priority 0; }}\n\
             add rule inet {table} in udp dport {{ {ports} }} drop\nadd rule inet {table} in udp sport {{ {ports} }} drop\n"
        ));
        cut
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        nft(&format!("delete table inet {}\n", self.0));
    }
}

fn nft(script: &str) {
    let done = Command::new("nft").arg(script).output().expect("nftables is installed");
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
}
