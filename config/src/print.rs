//! The configuration as text: the reference that explains it, and what `config show` prints.

use crate::key::{KEYS, Key, SECTIONS, SITE_KEYS};
use crate::section::{Config, Site};

const PREAMBLE: &str = "Every key with its default. A key is also a variable of the environment \
    (http.listen is CORALLINE_HTTP_LISTEN, lists with commas) and a flag (--set \
    http.listen=127.0.0.1:8080); a flag wins over the environment, which wins over the file.";

/// Comments end before column 100, as the rest of the project does.
const WIDTH: usize = 98;

impl Config {
    /// Every key with its default and its reason, as TOML that parses back to the defaults.
    #[must_use]
    pub fn reference() -> String {
        let mut out = String::new();
        comment(&mut out, PREAMBLE);
        out.push('\n');
        print(&Self::default(), &mut out, true);
        out.push_str(
            "\n# Hosts served under their own name: all methods, cookies and logins pass.\n",
        );
        out.push_str("# [[site]]\n");
        let example =
            Site { host: "www.example.org".into(), origin: "https://origin.example.org".into() };
        for key in SITE_KEYS {
            comment(&mut out, key.help);
            out.push_str(&format!("# {}\n", assignment(key, &example)));
        }
        out
    }

    /// The whole configuration as TOML that parses back to the same value.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        print(self, &mut out, false);
        for site in &self.sites {
            out.push_str("\n[[site]]\n");
            for key in SITE_KEYS {
                out.push_str(&assignment(key, site));
                out.push('\n');
            }
        }
        out
    }
}

fn print(config: &Config, out: &mut String, explain: bool) {
    keys(config, out, explain, |name| !name.contains('.'));
    for (section, help) in SECTIONS {
        out.push('\n');
        if explain {
            comment(out, help);
        }
        out.push_str(&format!("[{section}]\n"));
        keys(config, out, explain, |name| {
            name.split_once('.').is_some_and(|(before, _)| before == *section)
        });
    }
}

fn keys(config: &Config, out: &mut String, explain: bool, wanted: impl Fn(&str) -> bool) {
    for key in KEYS.iter().filter(|key| wanted(key.name)) {
        if explain {
            comment(out, key.help);
        }
        out.push_str(&assignment(key, config));
        out.push('\n');
    }
}

fn assignment<T>(key: &Key<T>, of: &T) -> String {
    let name = key.name.rsplit('.').next().unwrap_or(key.name);
    format!("{name} = {}", (key.text)(of))
}

fn comment(out: &mut String, text: &str) {
    let mut column = 0;
    for word in text.split_whitespace() {
        if column == 0 || column + 1 + word.len() > WIDTH {
            out.push_str(if column == 0 { "#" } else { "\n#" });
            column = 1;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + word.len();
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::Draft;

    fn parsed(text: &str) -> Config {
        let mut draft = Draft::default();
        crate::file::read_text("test.toml".as_ref(), text, &mut draft);
        assert_eq!(draft.mistakes, []);
        draft.config
    }

    #[test]
    fn reference_parses_to_the_defaults() {
        assert_eq!(parsed(&Config::reference()), Config::default());
    }

    #[test]
    fn reference_names_every_key_within_the_columns() {
        let reference = Config::reference();
        for key in KEYS {
            let last = key.name.rsplit('.').next().unwrap();
            assert!(reference.contains(&format!("\n{last} = ")), "{}", key.name);
        }
        assert!(reference.lines().all(|line| line.chars().count() <= 100));
    }

    #[test]
    fn the_commented_example_of_a_site_is_valid() {
        let reference = Config::reference();
        let at = reference.find("# [[site]]").unwrap();
        let example: String = reference[at..]
            .lines()
            .map(|line| line.trim_start_matches("# "))
            .filter(|line| line.contains('[') || line.contains(" = "))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(parsed(&example).sites.len(), 1);
    }

    #[test]
    fn what_is_shown_parses_back() {
        let config = parsed(
            r#"
            suffix = "cdn.example.net"
            state_dir = 'C:\odd "dir"'
            public_addr = "192.0.2.1"
            [https]
            listen = ["[::]:443", "0.0.0.0:443"]
            certificate = "/c.pem"
            key = "/k.pem"
            [overlay]
            seeds = ["a.example:1", "[::1]:2"]
            levels = ["1500us"]
            [origin]
            allow_private = ["127.0.0.0/8", "fd00::/8"]
            [cache]
            memory = "1500MB"
            stale_if_error = "0s"
            [[site]]
            host = "a.example"
            origin = "http://b.example:8080"
            "#,
        );
        assert_eq!(parsed(&config.to_toml()), config);
    }
}
