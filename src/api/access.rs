//! Who may read: replaced as a whole when the configuration is read again.

use std::{collections::HashMap, sync::Arc};

use super::{
    auth::{BasicAuth, BearerAuth, Profile},
    jwks::Keys,
    jwt::JwtAuth,
    settings::{JwtSettings, Settings, SettingsError},
};

/// Users, profiles, providers and their issuer.
pub struct Access {
    pub(super) basic: BasicAuth,
    pub(super) profiles: HashMap<String, Profile>,
    pub(super) bearer: BearerAuth,
    pub(super) match_organisation: bool,
    jwt: Option<JwtSettings>,
}

impl Access {
    /// Takes who may read out of the settings. Keys that are still in the same place are used on.
    pub fn of(settings: &mut Settings, before: Option<&Access>) -> Result<Self, SettingsError> {
        let jwt = settings.jwt.take();
        let bearer = match &jwt {
            None => None,
            Some(jwt) => {
                let same = before.filter(|before| before.jwt.as_ref().is_some_and(|b| b.same_keys(jwt)));
                let keys = match same.and_then(Access::keys) {
                    Some(held) => held.go_on(jwt.source()?, jwt.times),
                    None => Keys::new(jwt.source()?, jwt.times),
                };
                Some(JwtAuth::new(jwt.rules.clone(), Arc::new(keys)))
            }
        };
        Ok(Access {
            basic: BasicAuth::new(std::mem::take(&mut settings.users), settings.credential_cache),
            profiles: std::mem::take(&mut settings.profiles),
            bearer: BearerAuth::new(std::mem::take(&mut settings.providers), bearer),
            match_organisation: settings.match_organisation,
            jwt,
        })
    }

    /// The issuer's keys.
    pub fn keys(&self) -> Option<&Arc<Keys>> {
        self.bearer.jwt().map(JwtAuth::keys)
    }
}
