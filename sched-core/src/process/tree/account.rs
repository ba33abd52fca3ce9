//! Users and groups of /etc/passwd and /etc/group: what is elsewhere (LDAP) is named by number.

/// Whom a program runs as.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: Option<u32>,
    pub(super) gid: u32,
    /// All the groups that the user is in.
    pub(super) groups: Vec<u32>,
    /// What a login would put into the environment.
    pub(super) variables: Vec<(&'static str, String)>,
}

impl Account {
    /// Finds a user and a group by name or number; without a group it is the user's own.
    pub(super) fn find(user: Option<&str>, group: Option<&str>, passwd: &str, groups: &str) -> Result<Self, String> {
        let mut account = Self::default();
        let mut own = None;
        if let Some(user) = user {
            let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
            let entry = entry.filter(|fields| fields.len() >= 7).find(|fields| fields[0] == user || fields[2] == user);
            if let Some(fields) = &entry {
                let number =
                    |field: usize| fields[field].parse().map_err(|_| format!("/etc/passwd: no number in {fields:?}"));
                (account.uid, own) = (Some(number(2)?), Some(number(3)?));
                account.variables = [("USER", 0), ("LOGNAME", 0), ("HOME", 5), ("SHELL", 6)]
                    .map(|(name, field)| (name, fields[field].to_owned()))
                    .into();
                account.groups = members(groups, fields[0]);
            } else {
                account.uid =
                    Some(user.parse().map_err(|_| format!("no user `{user}` in /etc/passwd; write a number"))?);
            }
        }
        account.gid = match (group, own) {
            (Some(group), _) => group_id(groups, group)?,
            (None, Some(gid)) => gid,
            (None, None) => return Err("this user has no entry in /etc/passwd: write its `group` too".into()),
        };
        account.groups.push(account.gid);
        account.groups.sort_unstable();
        account.groups.dedup();
        Ok(account)
    }
}

fn entries(groups: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    groups.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        Some((name, id, fields.next().unwrap_or_default()))
    })
}

fn members(groups: &str, user: &str) -> Vec<u32> {
    let has = |(_, id, members): (&str, u32, &str)| members.split(',').any(|member| member == user).then_some(id);
    entries(groups).filter_map(has).collect()
}

fn group_id(groups: &str, group: &str) -> Result<u32, String> {
    let named = entries(groups).find(|(name, ..)| *name == group).map(|(_, id, _)| id);
    named.or_else(|| group.parse().ok()).ok_or_else(|| format!("no group `{group}` in /etc/group; write a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1001:1002:Ann:/home/ann:/bin/zsh\nbroken\n";
    const GROUP: &str = "root:x:0:\nann:x:1002:\nbackup:x:34:bob,ann\nvideo:x:44:bob\n";

    #[test]
    fn a_user_has_its_groups_and_its_home_and_what_is_not_there_is_named() {
        let ann = Account::find(Some("ann"), None, PASSWD, GROUP).unwrap();
        assert_eq!((ann.uid, ann.gid, &ann.groups[..]), (Some(1001), 1002, &[34, 1002][..]));
        assert!(ann.variables.contains(&("HOME", "/home/ann".to_owned())));
        let other = Account::find(Some("1001"), Some("video"), PASSWD, GROUP).unwrap();
        assert_eq!((other.uid, other.gid, &other.groups[..]), (Some(1001), 44, &[34, 44][..]));
        let stranger = Account::find(Some("5000"), Some("5001"), PASSWD, GROUP).unwrap();
        assert_eq!((stranger.uid, stranger.gid, stranger.variables.len()), (Some(5000), 5001, 0));
        let told = |user, group| Account::find(user, group, PASSWD, GROUP).unwrap_err();
        assert_eq!(told(Some("eve"), None), "no user `eve` in /etc/passwd; write a number");
        assert_eq!(told(None, Some("none")), "no group `none` in /etc/group; write a number");
        assert_eq!(told(Some("5000"), None), "this user has no entry in /etc/passwd: write its `group` too");
    }
}
