//! What to do next: a pure function of what is known.

use dukou_types::Digest;

/// What is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The version that answers requests; none where none could be loaded.
    pub serving: Option<Digest>,
    /// Where the followed tag leads; none where the registry could not be asked.
    pub followed: Option<Digest>,
    /// Versions that were tried here and are not tried again.
    pub refused: Vec<Digest>,
    /// The version that has been fetched to the last byte.
    pub fetched: Option<Digest>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: what serves is what is followed, or the registry is out of reach.
    Rest,
    /// Nothing: what is followed failed here before.
    Shun(Digest),
    /// Fetch what this version lacks.
    Fetch(Digest),
    /// Have the engine try this version, and commit it where it holds.
    Try(Digest),
}

/// Decides.
pub fn plan(facts: &Facts) -> Step {
    let Some(followed) = &facts.followed else { return Step::Rest };
    if facts.serving.as_ref() == Some(followed) {
        return Step::Rest;
    }
    if facts.refused.contains(followed) {
        return Step::Shun(followed.clone());
    }
    if facts.fetched.as_ref() == Some(followed) {
        return Step::Try(followed.clone());
    }
    // Also where the idle slot holds it: what is there is verified, what is lacking fetched.
    Step::Fetch(followed.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digit: char) -> Digest {
        Digest::parse(&format!("sha256:{}", digit.to_string().repeat(64))).unwrap()
    }

    #[test]
    fn every_case() {
        let (old, new) = (digest('1'), digest('2'));
        let base = Facts { serving: Some(old.clone()), ..Facts::default() };
        let followed = Facts { followed: Some(new.clone()), ..base.clone() };
        for (facts, step) in [
            (base.clone(), Step::Rest),
            (Facts { followed: Some(old.clone()), ..base }, Step::Rest),
            (followed.clone(), Step::Fetch(new.clone())),
            (Facts { fetched: Some(new.clone()), ..followed.clone() }, Step::Try(new.clone())),
            (Facts { fetched: Some(old.clone()), ..followed.clone() }, Step::Fetch(new.clone())),
            (Facts { refused: vec![new.clone()], ..followed.clone() }, Step::Shun(new.clone())),
            // What failed here is not tried though its bytes lie there.
            (
                Facts {
                    refused: vec![new.clone()],
                    fetched: Some(new.clone()),
                    ..followed.clone()
                },
                Step::Shun(new.clone()),
            ),
            // Nothing serves: what the tag leads to is wanted, be it what should have served.
            (Facts { serving: None, followed: Some(old.clone()), ..followed }, Step::Fetch(old)),
        ] {
            assert_eq!(plan(&facts), step, "{facts:?}");
        }
    }
}
