//! Names of containers by id: from what engines keep on disk, and over that what those say that answer.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use super::engines::{self, Engine};

/// Names by container id.
pub type Names = BTreeMap<String, String>;

/// What docker, podman and containerd's CRI have written down, where what can't be read has no names; and what `engines` say.
pub fn names(engines: &[Engine]) -> Names {
    let mut names = Names::new();
    for file in PODMAN {
        podman(Path::new(file), &mut names);
    }
    docker(Path::new(DOCKER), &mut names);
    containerd(Path::new(CONTAINERD), &mut names);
    names.extend(engines::names(engines));
    names
}

/// `containers.json` of containers/storage: id, and names of which the first is the container's.
fn podman(file: &Path, names: &mut Names) {
    let Some(Value::Array(containers)) = json(file) else { return };
    for container in &containers {
        let name = container["names"].as_array().and_then(|names| names.first()?.as_str());
        if let (Some(id), Some(name)) = (container["id"].as_str(), name) {
            names.insert(id.to_owned(), name.to_owned());
        }
    }
}

/// `<id>/config.v2.json` with a name that begins with a slash.
fn docker(dir: &Path, names: &mut Names) {
    for (id, path) in children(dir) {
        let config = json(&path.join("config.v2.json")).unwrap_or_default();
        if let Some(name) = config["Name"].as_str() {
            names.insert(id, name.trim_start_matches('/').to_owned());
        }
    }
}

/// The OCI bundle of each running sandbox: kubelet's pod name is among the annotations, nerdctl's too.
fn containerd(dir: &Path, names: &mut Names) {
    for (_, namespace) in children(dir) {
        for (id, path) in children(&namespace) {
            let config = json(&path.join("config.json")).unwrap_or_default();
            let annotations = &config["annotations"];
            let said = |key: &str| annotations[key].as_str();
            let pod = said("io.kubernetes.cri.sandbox-name").map(|pod| {
                said("io.kubernetes.cri.sandbox-namespace")
                    .map_or_else(|| pod.to_owned(), |namespace| format!("{namespace}/{pod}"))
            });
            if let Some(name) = pod.or_else(|| said("nerdctl/name").map(str::to_owned)) {
                // libcni's id under nerdctl has its namespace before it.
                if let Some(namespace) = namespace.file_name() {
                    names.insert(format!("{}-{id}", namespace.to_string_lossy()), name.clone());
                }
                names.insert(id, name);
            }
        }
    }
}

fn children(dir: &Path) -> Vec<(String, std::path::PathBuf)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let entries = entries.filter_map(Result::ok);
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect()
}

fn json(file: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

const PODMAN: [&str; 2] = [
    "/var/lib/containers/storage/overlay-containers/containers.json",
    "/run/containers/storage/overlay-containers/volatile-containers.json",
];
const DOCKER: &str = "/var/lib/docker/containers";
const CONTAINERD: &str = "/run/containerd/io.containerd.runtime.v2.task";

#[cfg(test)]
mod tests {
    use testenv::lab;

    use super::*;

    #[test]
    fn names_are_read_from_each_engines_files() {
        lab::run("names_are_read_from_each_engines_files", |lab| {
            let dir = lab.dir().join("engines");
            let write = |file: &str, text: &str| {
                let file = dir.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            };
            write("p.json", r#"[{"id": "aa", "names": ["web"]}, {"id": "ab"}, 3]"#);
            write("d/bb/config.v2.json", r#"{"Name": "/db"}"#);
            let pod = r#"{"annotations": {"io.kubernetes.cri.sandbox-name": "p", "io.kubernetes.cri.sandbox-namespace": "s"}}"#;
            write("c/k8s.io/cc/config.json", pod);
            write("c/k8s.io/cd/config.json", "{");
            let mut names = Names::new();
            podman(&dir.join("p.json"), &mut names);
            podman(&dir.join("none.json"), &mut names);
            docker(&dir.join("d"), &mut names);
            containerd(&dir.join("c"), &mut names);
            let found: Vec<_> = names.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect();
            assert_eq!(found, [("aa", "web"), ("bb", "db"), ("cc", "s/p"), ("k8s.io-cc", "s/p")]);
        });
    }
}
