//! Several hosts on one machine: network namespaces on one bridge, each with an address of its own, that can be slowed
//! down, made lossy and cut off. Needs root and a kernel that allows it; says why where it cannot be had.

use std::process::{Command, Stdio};

/// Hosts `0..n`, and this machine as the router between them. Everything goes when it is dropped.
pub struct Network {
    id: u32,
    hosts: usize,
}

impl Network {
    /// So many hosts.
    ///
    /// # Errors
    /// Why this machine has no namespaces.
    pub fn new(hosts: usize) -> Result<Self, String> {
        let network = Self {
            id: std::process::id(),
            hosts,
        };
        let bridge = network.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&[
            "addr",
            "add",
            &format!("{}/24", network.router()),
            "dev",
            &bridge,
        ])?;
        ip(&["link", "set", &bridge, "up"])?;
        for host in 0..hosts {
            let (name, inside, outside) = (network.namespace(host), "eth0", network.link(host));
            ip(&["netns", "add", &name])?;
            ip(&[
                "link", "add", &outside, "type", "veth", "peer", "name", inside, "netns", &name,
            ])?;
            ip(&["link", "set", &outside, "master", &bridge, "up"])?;
            let address = format!("{}/24", network.address(host));
            ip(&["-n", &name, "addr", "add", &address, "dev", inside])?;
            ip(&["-n", &name, "link", "set", inside, "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    fn bridge(&self) -> String {
        format!("thb{}", self.id)
    }

    fn link(&self, host: usize) -> String {
        format!("th{}-{host}", self.id)
    }

    fn prefix(&self) -> String {
        format!("10.{}.{}", 100 + self.id / 250 % 100, self.id % 250)
    }

    /// Name of a host's namespace.
    pub fn namespace(&self, host: usize) -> String {
        format!("thunderhead-{}-{host}", self.id)
    }

    /// Address of a host.
    pub fn address(&self, host: usize) -> String {
        format!("{}.{}", self.prefix(), host + 2)
    }

    /// Address of this machine.
    pub fn router(&self) -> String {
        format!("{}.1", self.prefix())
    }

    /// Makes what a host sends late, and one packet in two hundred lost. A kernel without netem lets packets wait in a
    /// bucket of tokens (the more is sent, the longer) and loses those that come in.
    ///
    /// # Errors
    /// Why it can do neither.
    pub fn shape(&self, host: usize) -> Result<(), String> {
        let namespace = self.namespace(host);
        let inside = |command: &str| {
            let mut args = vec!["netns", "exec", &namespace];
            args.extend(command.split(' '));
            ip(&args)
        };
        if inside("tc qdisc replace dev eth0 root netem delay 2ms 1ms loss 0.5%").is_ok() {
            return Ok(());
        }
        inside("tc qdisc replace dev eth0 root tbf rate 40mbit burst 16kb latency 100ms")?;
        inside("iptables -A INPUT -i eth0 -m statistic --mode random --probability 0.005 -j DROP")
    }

    /// Cuts a host off, or takes it back.
    pub fn cut(&self, host: usize, cut: bool) {
        let state = if cut { "down" } else { "up" };
        ip(&["link", "set", &self.link(host), state]).expect("a link that was made");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in 0..self.hosts {
            let _ = ip(&["link", "del", &self.link(host)]);
            let _ = ip(&["netns", "del", &self.namespace(host)]);
        }
        let _ = ip(&["link", "del", &self.bridge()]);
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let failed = |why: &str| format!("ip {}: {}", args.join(" "), why.trim());
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|e| failed(&e.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(&String::from_utf8_lossy(&output.stderr)))
    }
}
