//! Configurations that are read whole, and mistakes that are all told.

use super::*;

struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        fs::create_dir(host.path("apps")).unwrap();
        host.write("secret", &"s".repeat(32));
        host.write("agent.toml", &host.agent(""));
        host.write("apps/shop.toml", &app("shop.example.com"));
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn agent(&self, more: &str) -> String {
        let folder = self.0.path().display();
        format!("secret_files = [\"{folder}/secret\"]\napps = \"{folder}/apps\"\n{more}")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn check(&self, expected: &[&str]) {
        let read = read(&self.path("agent.toml"));
        let mistakes = read.map_or_else(|mistakes| mistakes, |read| read.keyring.check());
        for part in expected {
            assert!(
                mistakes.iter().any(|m| m.contains(part)),
                "{mistakes:#?} lack {part:?}"
            );
        }
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
    }
}

fn app(domain: &str) -> String {
    format!("image = \"ghcr.io/acme/shop\"\ndomains = [\"{domain}\"]\nport = 80\n")
}

#[test]
fn a_small_configuration_is_enough() {
    let host = Host::new();
    host.check(&[]);
    let config = read(&host.path("agent.toml")).ok().unwrap();
    assert_eq!(config.apps.len(), 1);
    assert_eq!(config.listen.to_string(), "127.0.0.1:8420");
}

#[test]
fn an_empty_or_short_secret_stops_the_agent() {
    let host = Host::new();
    host.write("secret", "");
    host.check(&["has 0 bytes"]);
    host.write("secret", "short\n");
    host.check(&["has 5 bytes"]);
}

#[test]
fn mistakes_of_all_files_are_told_at_once_and_no_secret_with_them() {
    let host = Host::new();
    host.write("secret", "hunter2");
    host.write("apps/shop.toml", "image = 3\nport = 80\ndomain = []\n");
    host.write(
        "apps/blog.toml",
        "env_file = \"/does/not/exist\"\n[env]\nA = 1\n",
    );
    let mistakes = read(&host.path("agent.toml")).err().unwrap();
    let all = mistakes.join("\n");
    for part in [
        "secret: the secret has",
        "shop.toml:1:",
        "did you mean domains",
        "blog.toml",
    ] {
        assert!(all.contains(part), "{all} lacks {part}");
    }
    assert!(!all.contains("hunter2"), "{all}");
}

#[test]
fn two_apps_cannot_claim_the_same_users() {
    let host = Host::new();
    host.write("apps/twin.toml", &app("shop.example.com"));
    host.check(&["already taken by apps/shop.toml"]);
}

#[test]
fn the_example_is_understood_with_and_without_its_defaults() {
    let example = include_str!("../../../packaging/examples/agent.toml");
    let uncomment = |line: &str| match line.strip_prefix("# ") {
        // The other way to sign in excludes the first.
        Some(rest) if rest.contains(" = ") && !rest.starts_with("app_") => rest.to_owned(),
        Some(rest) if rest.starts_with("[[") => rest.to_owned(),
        _ => line.to_owned(),
    };
    let whole: Vec<_> = example.lines().map(uncomment).collect();
    for text in [example.to_owned(), whole.join("\n")] {
        let read = reader::read("agent.toml", &text, written).ok().unwrap();
        assert_eq!(read.listen.to_string(), "127.0.0.1:8420");
        assert_eq!(read.history.deploys, 100);
        assert_eq!(read.history.age, 90 * DAY);
        assert_eq!(read.apps, Path::new("/etc/cutover/apps"));
        assert_eq!(read.proxy_socket, Path::new("/run/cutover/proxy.sock"));
        assert_eq!(read.state, Path::new("/var/lib/cutover"));
        assert_eq!(read.keyring.file, Keyring::default().file);
        assert_eq!(read.keyring.folders, Keyring::default().folders);
    }
    for key in [
        "listen",
        "secret_files",
        "apps",
        "socket",
        "socket_group",
        "metrics",
        "proxy_socket",
        "docker",
        "registry_config",
        "registry_helpers",
        "state",
        "[[notify]]",
        "url_file",
        "secret_file",
        "deploys",
        "age",
        "token_file",
        "app_id",
        "app_key_file",
        "api_url",
    ] {
        let named = |line: &str| line.trim_start_matches("# ").starts_with(key);
        assert!(example.lines().any(named), "{key}");
    }
}

#[test]
fn github_needs_a_credential_that_is_there() {
    let host = Host::new();
    host.write("agent.toml", &host.agent("[github]\n"));
    host.check(&["token_file"]);
    host.write(
        "agent.toml",
        &host.agent("[github]\ntoken_file = \"/does/not/exist\"\n"),
    );
    host.check(&["/does/not/exist: cannot be read"]);
    host.write(
        "agent.toml",
        &host.agent("listen = \"nowhere\"\nlisten_to = 1\n"),
    );
    host.check(&["no address", "listen_to"]);
}

#[test]
fn a_broken_file_of_credentials_is_told_and_nothing_of_it_shown() {
    let host = Host::new();
    let file = host.path("config.json").display().to_string();
    let keys = format!(
        "registry_config = {file:?}\nregistry_helpers = [{:?}]\n",
        host.path("apps")
    );
    host.write("agent.toml", &host.agent(&keys));
    host.check(&["config.json: cannot be read"]);
    host.write("config.json", "{\"auths\": hunter2}");
    host.check(&["config.json: line 1, column"]);
    let auths = r#"{"ghcr.io": {"auth": "hunter2"}, "quay.io": {"auth": "dTpw"}}"#;
    host.write("config.json", &format!("{{\"auths\": {auths}}}"));
    host.check(&["config.json: auths.\"ghcr.io\".auth is no base64"]);
    host.write("config.json", r#"{"credsStore": "../apps/x"}"#);
    host.check(&["config.json: credsStore has more than letters"]);
    host.write("config.json", r#"{"credHelpers": {"ghcr.io": "nowhere"}}"#);
    host.check(&["program docker-credential-nowhere, which is not in"]);
    host.write("apps/docker-credential-nowhere", "");
    host.check(&[]);
    host.write("agent.toml", &host.agent("registry_config = \"here\"\n"));
    host.check(&["registry_config \"here\": is no absolute path"]);
}

#[test]
fn a_file_that_is_no_short_text_is_told_as_such() {
    let host = Host::new();
    let agent = |secret: &str| {
        let apps = host.path("apps");
        format!(
            "secret_files = [\"{secret}\"]\napps = \"{}\"\n",
            apps.display()
        )
    };
    host.write("agent.toml", &agent("/dev/zero"));
    host.check(&["/dev/zero: is longer than 1 MiB (hint: "]);
    host.write("agent.toml", &agent("/dev"));
    host.check(&["it is a folder, name a file"]);
    host.write("agent.toml", &agent("/does/not/exist"));
    host.check(&["correct the path"]);
    host.write("agent.toml", &host.agent(""));
    fs::write(host.path("secret"), b"hunter2\xffhunter2").unwrap();
    host.check(&["secret: byte 7 is not UTF-8 (hint: save it as UTF-8"]);
    let long = "s".repeat(usize::try_from(MAX_FILE).unwrap());
    fs::write(host.path("apps/shop.toml"), format!("#{long}")).unwrap();
    host.write("secret", &"s".repeat(32));
    host.check(&["shop.toml: is longer than 1 MiB"]);
}

#[test]
fn what_only_the_start_would_find_is_found_here() {
    let host = Host::new();
    let check = |more: &str, expected: &[&str]| {
        host.write("agent.toml", &host.agent(more));
        host.check(expected);
    };
    check(
        "docker = \"podman\"\n",
        &["is no address of a container engine"],
    );
    check("docker = \"unix:///run/docker.sock\"\n", &[]);
    check(
        "metrics = \"0.0.0.0:8421\"\n",
        &["is no address of the loopback"],
    );
    check("metrics = \"8421\"\n", &["is no address with a port"]);
    check("metrics = \"[::1]:8421\"\n", &[]);
    let state = |name: &str| format!("state = \"{}\"\n", host.path(name).display());
    check(&state("secret"), &["is no folder"]);
    check(&state("apps"), &[]);
    check(&state("to/be/made"), &[]);
    let key = host.path("key.pem");
    let app = format!(
        "[github]\napp_id = 1\napp_key_file = \"{}\"\n",
        key.display()
    );
    for text in [
        "ghp_hunter2",
        "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\nMII\n",
    ] {
        host.write("key.pem", text);
        check(&app, &["key.pem: is no private key (hint: "]);
    }
    for kind in ["RSA PRIVATE KEY", "PRIVATE KEY"] {
        host.write(
            "key.pem",
            &format!("-----BEGIN {kind}-----\r\nMII\r\n-----END {kind}-----\r\n"),
        );
        check(&app, &[]);
    }
}

#[test]
fn receivers_of_the_host_are_told_of_every_app_and_their_files_are_checked() {
    let host = Host::new();
    let slack = host.path("slack.url");
    let slack = slack.display();
    let notify = format!("[[notify]]\nkind = \"slack\"\nurl_file = \"{slack}\"\n");
    host.write("agent.toml", &host.agent(&notify));
    host.check(&["slack.url: cannot be read"]);
    host.write("slack.url", "http://hooks.example.com/hunter2\n");
    host.check(&["slack.url: begins with http://"]);
    host.write("slack.url", "https://hooks.example.com/hunter2\n");
    host.check(&[]);
    let own = format!("{}{notify}on = [\"failed\"]\n", app("shop.example.com"));
    host.write("apps/shop.toml", &own);
    host.write("apps/blog.toml", &app("blog.example.com"));
    let config = read(&host.path("agent.toml")).ok().unwrap();
    let told = |app: &str| {
        let spec = &config.apps[&AppName::parse(app).unwrap()];
        let told = spec.notify.iter().map(|receiver| receiver.on.len());
        told.collect::<Vec<_>>()
    };
    assert_eq!((told("shop"), told("blog")), (vec![1], vec![7]));
    // One receiver has one secret.
    let webhook = |secret: &str| {
        let secret = host.path(secret);
        format!(
            "[[notify]]\nkind = \"webhook\"\nurl_file = \"{slack}\"\nsecret_file = \"{}\"\n",
            secret.display()
        )
    };
    host.write("other", &"o".repeat(32));
    let text = format!("{}{}", app("shop.example.com"), webhook("secret"));
    host.write("apps/shop.toml", &text);
    host.write("agent.toml", &host.agent(&webhook("other")));
    host.check(&["has two secret_files"]);
}

#[test]
fn the_secret_of_a_preview_is_looked_for_before_a_deploy_needs_it() {
    let host = Host::new();
    let secret = host.path("preview");
    let table = format!("[preview]\nsecret_file = \"{}\"\n", secret.display());
    host.write("apps/shop.toml", &(app("shop.example.com") + &table));
    host.check(&["preview: cannot be read: No such file"]);
    host.write("preview", "\n");
    host.check(&["has no secret in its first line"]);
    host.write("preview", "open sesame\n");
    host.check(&[]);
}
