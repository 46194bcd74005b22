//! The maps catalogue as people are shown it: a row for each type, with its title, colour, sentence and facts, and the
//! paths into its payload. Several paths stand where publishers name the same thing differently.

use Fact::{Else, Isk, Shown};
use Step::{Names, Says};

/// A path into a payload: keys with dots between.
pub(super) type Path = &'static str;

/// One step of the sentence below a title.
pub(super) enum Step {
    /// These words.
    Says(&'static str),
    /// The first of these paths that has something to show, emphasised.
    Names(&'static [Path]),
}

/// How the value of a fact is written.
pub(super) enum Fact {
    /// As it is; the first of the paths that has something to show.
    Shown(&'static str, &'static [Path]),
    /// As it is, and as the last word where there is nothing.
    Else(&'static str, &'static [Path], &'static str),
    /// An amount of ISK, in millions.
    Isk(&'static str, &'static [Path]),
}

pub(super) struct Row {
    pub kind: &'static str,
    pub title: &'static str,
    pub colour: u32,
    pub sentence: &'static [Step],
    pub facts: &'static [Fact],
}

pub(super) const GREEN: u32 = 0x00_ff_00;
pub(super) const RED: u32 = 0xff_00_00;
pub(super) const BLUE: u32 = 0x00_99_ff;
const ORANGE: u32 = 0xff_99_00;
const PURPLE: u32 = 0x99_33_ff;
pub(super) const GREY: u32 = 0x80_80_80;

const SYSTEM: &[Path] = &["name", "system_name", "solar_system_name", "solar_system_id"];
const PLACE: &[Path] = &["system_name", "solar_system_name", "solar_system_id"];
const SYSTEM_ID: Fact = Shown("System ID", &["solar_system_id"]);
const IN_SYSTEM: Fact = Shown("System", PLACE);
const FROM: &[Path] = &["from_name", "source_name", "solar_system_source", "source"];
const TO: &[Path] = &["to_name", "target_name", "solar_system_target", "target"];
const CONNECTION: &[Fact] = &[
    Shown("Type", &["type", "wormhole_type"]),
    Else("Mass Status", &["mass_status"], "Fresh"),
    Shown("Time Status", &["time_status"]),
    Shown("Ship Size", &["ship_size_type", "ship_size"]),
];
const SIGNATURE: &[Path] = &["eve_id", "signature_id", "name", "id"];
const SIGNATURE_FACTS: &[Fact] =
    &[IN_SYSTEM, Shown("Kind", &["kind", "group"]), Shown("Type", &["type"]), Shown("Name", &["name"])];
const CHARACTER: &[Path] = &["name", "character_name", "character_eve_id", "character_id"];
const CHARACTER_FACTS: &[Fact] = &[
    Shown("Corporation", &["corporation", "corporation_name", "corporation_ticker", "corporation_id"]),
    Shown("Alliance", &["alliance", "alliance_name", "alliance_ticker", "alliance_id"]),
    Shown("Ship", &["ship", "ship_name", "ship_type"]),
    IN_SYSTEM,
];
const MEMBER: &[Path] = &["member_name", "name", "member_id", "eve_id"];
const MEMBER_TYPE: Fact = Shown("Member Type", &["member_type"]);
const ACL_ID: Fact = Shown("ACL ID", &["acl_id"]);
const PILOT: &[Path] = &["character_name", "created_by", "character_eve_id", "character_id"];
const RALLY_FACTS: &[Fact] = &[IN_SYSTEM, Shown("Pilot", PILOT), Shown("Message", &["message"])];
const STRUCTURE: &[Path] = &["name", "structure_name", "structure_id", "id"];
const STRUCTURE_FACTS: &[Fact] = &[
    IN_SYSTEM,
    Shown("Type", &["structure_type", "type"]),
    Shown("Owner", &["owner_name", "owner", "owner_ticker"]),
    Shown("Status", &["status"]),
];

/// The maps catalogue. Where users of the maps family know an embed already (a new system, a kill, a new connection,
/// the access list), title, colour and the names of the facts are the ones they know.
pub(super) const ROWS: &[Row] = &[
    Row {
        kind: "add_system",
        title: "New System Added",
        colour: GREEN,
        sentence: &[Says("System "), Names(SYSTEM), Says(" is on the map now")],
        facts: &[SYSTEM_ID, Shown("Type", &["type"]), Shown("Class", &["class"]), Shown("Statics", &["statics"])],
    },
    Row {
        kind: "deleted_system",
        title: "System Removed",
        colour: ORANGE,
        sentence: &[Says("System "), Names(SYSTEM), Says(" has left the map")],
        facts: &[SYSTEM_ID],
    },
    Row {
        kind: "system_renamed",
        title: "System Renamed",
        colour: BLUE,
        sentence: &[
            Says("System "),
            Names(&["old_name", "original_name", "solar_system_id"]),
            Says(" is now called "),
            Names(&["new_name", "name", "temporary_name"]),
        ],
        facts: &[SYSTEM_ID],
    },
    Row {
        kind: "system_metadata_changed",
        title: "System Updated",
        colour: BLUE,
        sentence: &[Says("The notes on system "), Names(SYSTEM), Says(" have changed")],
        facts: &[
            SYSTEM_ID,
            Shown("Status", &["status"]),
            Shown("Tag", &["tag"]),
            Shown("Labels", &["labels"]),
            Shown("Description", &["description"]),
        ],
    },
    Row {
        kind: "connection_added",
        title: "New Connection",
        colour: BLUE,
        sentence: &[Names(FROM), Says(" is now connected to "), Names(TO)],
        facts: CONNECTION,
    },
    Row {
        kind: "connection_removed",
        title: "Connection Removed",
        colour: ORANGE,
        sentence: &[Names(FROM), Says(" is no longer connected to "), Names(TO)],
        facts: &[Shown("Type", &["type", "wormhole_type"])],
    },
    Row {
        kind: "connection_updated",
        title: "Connection Updated",
        colour: BLUE,
        sentence: &[Says("The connection "), Names(FROM), Says(" → "), Names(TO), Says(" has changed")],
        facts: CONNECTION,
    },
    Row {
        kind: "signature_added",
        title: "New Signature",
        colour: GREEN,
        sentence: &[Says("Signature "), Names(SIGNATURE), Says(" has been found")],
        facts: SIGNATURE_FACTS,
    },
    Row {
        kind: "signature_removed",
        title: "Signature Removed",
        colour: ORANGE,
        sentence: &[Says("Signature "), Names(SIGNATURE), Says(" is gone")],
        facts: SIGNATURE_FACTS,
    },
    Row {
        kind: "signatures_updated",
        title: "Signatures Updated",
        colour: BLUE,
        sentence: &[Says("The signatures of "), Names(PLACE), Says(" have been scanned again")],
        facts: &[
            Shown("Added", &["added_count", "added"]),
            Shown("Updated", &["updated_count", "updated"]),
            Shown("Removed", &["removed_count", "removed"]),
        ],
    },
    Row {
        kind: "character_added",
        title: "Character Added",
        colour: GREEN,
        sentence: &[Names(CHARACTER), Says(" is tracked on the map")],
        facts: CHARACTER_FACTS,
    },
    Row {
        kind: "character_removed",
        title: "Character Removed",
        colour: ORANGE,
        sentence: &[Names(CHARACTER), Says(" is no longer tracked on the map")],
        facts: CHARACTER_FACTS,
    },
    Row {
        kind: "character_updated",
        title: "Character Updated",
        colour: BLUE,
        sentence: &[Names(CHARACTER), Says(" has changed place, ship or state")],
        facts: CHARACTER_FACTS,
    },
    Row {
        kind: "characters_updated",
        title: "Characters Updated",
        colour: BLUE,
        sentence: &[Says("Several tracked characters have changed")],
        facts: &[Shown("Characters", &["characters", "character_names", "character_ids", "count"])],
    },
    Row {
        kind: "map_kill",
        title: "Kill Detected",
        colour: RED,
        sentence: &[Names(&["victim.ship", "victim.ship_name"]), Says(" lost in "), Names(PLACE)],
        facts: &[
            Shown("Victim", &["victim.name", "victim.character_name"]),
            Shown("Ship", &["victim.ship", "victim.ship_name"]),
            Isk("Value", &["value", "zkb.totalValue"]),
            Shown("Corporation", &["victim.corporation", "victim.corporation_name"]),
        ],
    },
    Row {
        kind: "acl_member_added",
        title: "ACL Member Added",
        colour: GREEN,
        sentence: &[Names(MEMBER), Says(" has joined the access list")],
        facts: &[MEMBER_TYPE, Shown("Role", &["role"]), ACL_ID],
    },
    Row {
        kind: "acl_member_removed",
        title: "ACL Member Removed",
        colour: ORANGE,
        sentence: &[Names(MEMBER), Says(" has left the access list")],
        facts: &[MEMBER_TYPE, Shown("Role", &["role"]), ACL_ID],
    },
    Row {
        kind: "acl_member_updated",
        title: "ACL Member Updated",
        colour: BLUE,
        sentence: &[Names(MEMBER), Says(" has a new role on the access list")],
        facts: &[MEMBER_TYPE, Shown("New Role", &["role", "new_role"]), ACL_ID],
    },
    Row {
        kind: "rally_point_added",
        title: "Rally Point Set",
        colour: PURPLE,
        sentence: &[Says("Rally in "), Names(PLACE)],
        facts: RALLY_FACTS,
    },
    Row {
        kind: "rally_point_removed",
        title: "Rally Point Removed",
        colour: ORANGE,
        sentence: &[Says("No more rally in "), Names(PLACE)],
        facts: RALLY_FACTS,
    },
    Row {
        kind: "structure_added",
        title: "New Structure",
        colour: GREEN,
        sentence: &[Says("Structure "), Names(STRUCTURE), Says(" has been noted")],
        facts: STRUCTURE_FACTS,
    },
    Row {
        kind: "structure_removed",
        title: "Structure Removed",
        colour: ORANGE,
        sentence: &[Says("Structure "), Names(STRUCTURE), Says(" has been struck off")],
        facts: STRUCTURE_FACTS,
    },
    Row {
        kind: "structure_updated",
        title: "Structure Updated",
        colour: BLUE,
        sentence: &[Says("Structure "), Names(STRUCTURE), Says(" has changed")],
        facts: STRUCTURE_FACTS,
    },
    Row {
        kind: "structure_timer",
        title: "Structure Timer",
        colour: PURPLE,
        sentence: &[Says("A timer runs for structure "), Names(STRUCTURE)],
        facts: &[
            IN_SYSTEM,
            Shown("Type", &["structure_type", "type"]),
            Shown("State", &["timer_type", "status"]),
            Shown("Ends", &["end_time", "ends_at", "timer"]),
        ],
    },
];
