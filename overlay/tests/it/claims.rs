use std::{
    collections::BTreeSet,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use overlay::{
    config::EtcdConfig,
    definition::Definition,
    directory::{Directory, Watched, etcd::Etcd},
    peer::Record,
    state::Standing,
};
use serde_json::json;
use testenv::{
    lab::{self, Lab},
    wait,
};

/// An etcd in the lab's own namespace, ended with the test.
struct Server(Child);

impl Server {
    fn start(lab: &Lab, arguments: &[&str]) -> Self {
        lab.needs_program("etcd", "etcd-server");
        let dir = lab.dir().join("etcd");
        let mut command = Command::new("etcd");
        command.args(["--data-dir", dir.to_str().unwrap()]).args(arguments);
        let log = std::fs::File::create(lab.dir().join("etcd.log")).unwrap();
        Self(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn config(endpoint: &str) -> EtcdConfig {
    serde_json::from_value(json!({"endpoints": [endpoint], "grace": 1, "alive": 10})).unwrap()
}

fn definition() -> Definition {
    serde_json::from_str(r#"{"name":"lab","vni":7,"pools":["10.244.0.0/16","fd00:244::/48"]}"#).unwrap()
}

fn record(number: u8) -> Record {
    let json = json!({"node": format!("h{number}"), "underlay": {"v4": format!("192.0.2.{number}")},
                      "mac": {"v4": format!("02:00:00:00:00:{number:02x}")}});
    serde_json::from_value(json).unwrap()
}

/// Joins as an agent does: list, claim, watch, claim again. What the host got, and after how many requests.
async fn join(config: EtcdConfig, number: u8) -> (Vec<String>, u64) {
    let node = format!("h{number}").parse().unwrap();
    let mut etcd = Etcd::open(&definition(), &config, node).unwrap();
    for _ in 0..MOST_SESSIONS {
        match session(&mut etcd, &record(number)).await {
            Ok(got) => return (got, etcd.calls()),
            // Another of the hosts changed what we were about to; as an agent does, begin anew.
            Err(err) => eprintln!("h{number}: {err}"),
        }
    }
    panic!("h{number} does not get in");
}

const MOST_SESSIONS: usize = 20;

async fn session(
    etcd: &mut Etcd,
    record: &Record,
) -> Result<Vec<String>, overlay::directory::DirectoryError> {
    etcd.list().await?;
    loop {
        match etcd.claim(Some(record), &[]).await? {
            Standing::Owner { subnets } => return Ok(subnets.iter().map(ToString::to_string).collect()),
            Standing::Waiting { .. } | Standing::Lost { .. } => {}
        }
        // The end of the grace is a change like another, though none of a peer.
        let watched = tokio::time::timeout(Duration::from_millis(200), etcd.watch()).await;
        if matches!(watched, Ok(Ok(Watched::Everything))) {
            etcd.list().await?;
        }
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

#[test]
fn two_hundred_hosts_claim_at_once() {
    lab::run("overlay-claims", |lab| {
        let _server = Server::start(lab, &[]);
        let url = "http://127.0.0.1:2379";
        wait::wait_for("etcd to listen", Duration::from_secs(20), || {
            std::net::TcpStream::connect("127.0.0.1:2379").is_ok()
        });
        let start = Instant::now();
        let joined = run(async {
            let mut tasks = tokio::task::JoinSet::new();
            for number in 1..=200 {
                tasks.spawn_local(join(config(url), number));
            }
            tasks.join_all().await
        });
        let took = start.elapsed();
        let subnets: BTreeSet<_> = joined.iter().flat_map(|(subnets, _)| subnets).collect();
        assert_eq!(subnets.len(), 400, "two subnets for each, all distinct");
        let (most, all) =
            (joined.iter().map(|(_, n)| n).max().unwrap(), joined.iter().map(|(_, n)| n).sum::<u64>());
        eprintln!(
            "200 hosts joined in {:.1} s, 1 s of it the grace: {most} requests at most, {:.1} on average",
            took.as_secs_f64(),
            f64::from(u32::try_from(all).unwrap()) / 200.0
        );
        assert!(*most < 60, "retries are bounded: {most}");
    });
}

/// Turns passwords on, and lets user `tenon` into `/tenon/`.
fn allow_tenon(lab: &Lab, ca: &str, client: &[String; 2]) {
    let (ca, cert, key) =
        (format!("--cacert={ca}"), format!("--cert={}", client[0]), format!("--key={}", client[1]));
    let line = ["env", "ETCDCTL_API=3", "etcdctl", "--endpoints=https://127.0.0.1:2379", &ca, &cert, &key];
    let ctl = |argv: &[&str]| lab.exec(&[line.as_slice(), argv].concat());
    wait::wait_for("etcd", Duration::from_secs(20), || ctl(&["endpoint", "health"]).succeeded());
    for argv in [
        ["user", "add", "root:secret"].as_slice(),
        &["user", "grant-role", "root", "root"],
        &["user", "add", "tenon:hush"],
        &["role", "add", "overlay"],
        &["role", "grant-permission", "overlay", "readwrite", "--prefix=true", "/tenon/"],
        &["user", "grant-role", "tenon", "overlay"],
        &["auth", "enable"],
    ] {
        // The role of root is there already in some versions.
        let done = ctl(argv);
        assert!(done.succeeded() || argv[1] == "grant-role", "{done:?}");
    }
}

#[test]
fn with_tls_certificates_and_a_password() {
    lab::run("overlay-tls", |lab| {
        lab.needs_program("openssl", "openssl");
        lab.needs_program("etcdctl", "etcd-client");
        let dir = lab.dir();
        let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        lab.exec(&["sh", "-ec", &CERTIFICATES.replace("$DIR", dir.to_str().unwrap())]).ok();
        let (ca, cert, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
        let url = "https://127.0.0.1:2379";
        let _server = Server::start(
            lab,
            &[
                "--listen-client-urls",
                url,
                "--advertise-client-urls",
                url,
                "--cert-file",
                &cert,
                "--key-file",
                &key,
                "--trusted-ca-file",
                &ca,
                "--client-cert-auth",
            ],
        );
        let client = [file("client.pem"), file("client.key")];
        allow_tenon(lab, &ca, &client);
        let password = dir.join("password");
        std::fs::write(&password, "hush\n").unwrap();
        let full = json!({"endpoints": [url], "grace": 1, "ca": ca, "cert": client[0], "key": client[1],
                          "username": "tenon", "password-file": password});
        let (subnets, _) = run(join(serde_json::from_value(full.clone()).unwrap(), 1));
        assert_eq!(subnets.len(), 2);
        let refused = |change: serde_json::Value| {
            let mut config = full.clone();
            config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let config: EtcdConfig = serde_json::from_value(config).unwrap();
            run(async {
                let mut etcd = Etcd::open(&definition(), &config, "h2".parse().unwrap())?;
                etcd.list().await
            })
            .unwrap_err()
            .to_string()
        };
        std::fs::write(&password, "wrong\n").unwrap();
        let err = refused(json!({}));
        assert!(err.contains("log in to etcd as tenon") && err.contains("invalid"), "{err}");
        let err = refused(json!({"cert": null, "key": null}));
        assert!(err.to_lowercase().contains("certificate"), "{err}");
        let err = refused(json!({"ca": client[0]}));
        assert!(err.to_lowercase().contains("certificate"), "{err}");
    });
}

const CERTIFICATES: &str = "cd $DIR
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=lab-ca 2>/dev/null
for who in server client; do
  openssl req -newkey rsa:2048 -nodes -keyout $who.key -out $who.csr -subj /O=$who 2>/dev/null
  printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\nextendedKeyUsage=serverAuth,clientAuth\\n' > $who.ext
  openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $who.ext -out $who.pem 2>/dev/null
done";
