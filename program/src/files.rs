//! How many files and connections the program may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to what this process may have, since each connection is an open file: the usual limit of 1,024 is for
/// programs that know no more, and where it is reached not even a probe is let in. Returns the limit that holds; `None` where
/// there is none.
pub fn allow_open() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    // Where nothing is to be raised nothing is asked: a sandbox may refuse the call.
    if limit.current == limit.maximum {
        return limit.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, current = limit.current, "the limit of open files cannot be raised");
            limit.current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_what_the_process_may_have() {
        let most = getrlimit(Resource::Nofile);
        let lowered = Rlimit { current: Some(512), ..most };
        setrlimit(Resource::Nofile, lowered).expect("one may have less");
        assert_eq!(allow_open(), most.maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, most.maximum);
        assert_eq!(allow_open(), most.maximum, "and once more, where nothing is to be raised");
    }
}
