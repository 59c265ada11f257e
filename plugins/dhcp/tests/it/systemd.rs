//! The agent as a service of systemd: its own programs hand over the socket and read the units. No service manager runs.

use std::{fs, os::unix::net::UnixDatagram, time::Duration};

use testenv::{lab, plugin::built, wait::wait_for};

use crate::{call, known, lan};

#[test]
fn the_service_managers_socket_starts_the_agent() {
    lab::run("dhcp_activated", |lab| {
        lab.needs_program("systemd-socket-activate", "systemd");
        let (_lan, _server) = lan(lab, &[]);
        let (socket, notify) = ("/run/cni/dhcp.sock", lab.dir().join("notify"));
        fs::create_dir_all("/run/cni").unwrap();
        let manager = UnixDatagram::bind(&notify).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let program = built().join("dhcp").display().to_string();
        let activate = [
            "systemd-socket-activate",
            &format!("--listen={socket}"),
            &format!("--setenv=NOTIFY_SOCKET={}", notify.display()),
            &program,
            "daemon",
        ];
        let agent = lab.daemon(lab.host(), &activate);
        wait_for("the socket", Duration::from_secs(10), || fs::exists(socket).unwrap());
        // Nobody has asked yet.
        assert!(!program_of(agent.pid()).ends_with("/dhcp"));
        let c1 = lab.netns("c1");
        call(lab, "macvlan", &c1).add().ok();
        assert!(program_of(agent.pid()).ends_with("/dhcp"));
        let mut said = [0; 64];
        let length = manager.recv(&mut said).unwrap();
        assert_eq!(&said[..length], b"READY=1\n");
        call(lab, "macvlan", &c1).del().ok();
        wait_for("no lease", Duration::from_secs(5), || known(lab) == 0);

        lab.exec(&["kill", "-TERM", &agent.pid().to_string()]).ok();
        wait_for("the agent's end", Duration::from_secs(10), || program_of(agent.pid()).is_empty());
        // It is whose it was.
        fs::remove_file(socket).unwrap();
    });
}

/// What the process runs; nothing when it has ended.
fn program_of(pid: u32) -> String {
    fs::read_link(format!("/proc/{pid}/exe")).map(|path| path.display().to_string()).unwrap_or_default()
}

#[test]
fn the_units_are_sound() {
    lab::run("dhcp_units", |lab| {
        lab.needs_program("systemd-analyze", "systemd");
        lab.allow("/run/systemd");
        let units = [
            ("tenon-dhcp.service", include_str!("../../systemd/tenon-dhcp.service")),
            ("tenon-dhcp.socket", include_str!("../../systemd/tenon-dhcp.socket")),
        ];
        let mut verify = ["systemd-analyze", "verify", "--man=no"].map(str::to_owned).to_vec();
        for (name, text) in units {
            let path = lab.dir().join("units").join(name);
            // Where it is here.
            lab.write(&path, &text.replace("/opt/cni/bin", &built().display().to_string()));
            verify.push(path.display().to_string());
        }
        let said = lab.exec(&verify.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((said.succeeded(), said.stderr.trim()), (true, ""), "{said:?}");
    });
}
