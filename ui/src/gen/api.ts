// Generated from node/src/web/api.rs; run its test with BLESS=1.

/**
 * What the node tells the page.
 */
export type ServerMessage = { "type": "hello" } & Hello | { "type": "nodes",
/**
 * In the order of their indices.
 */
nodes: Array<Node>, } | { "type": "series",
/**
 * The number the page gave its request.
 */
request: number,
/**
 * Index of the node.
 */
node: number,
/**
 * In the order of their indices.
 */
series: Array<SeriesInfo>, } | { "type": "error",
/**
 * The number the page gave its request; 0 where the message had none that could be read.
 */
request: number,
/**
 * A sentence for a person.
 */
message: string, } | { "type": "bye",
/**
 * Why, for a person.
 */
reason: string, };

/**
 * Who serves the page, and what its overview shows.
 */
export type Hello = {
/**
 * Version of the serving program.
 */
version: string,
/**
 * Id of the serving node.
 */
me: string,
/**
 * The mesh it is a member of.
 */
mesh: MeshName,
/**
 * The overview's columns, in the order of the values in TICK frames.
 */
columns: Array<Column>,
/**
 * Wall time of the serving node, milliseconds since the Unix epoch.
 */
now_ms: number, };

/**
 * What a mesh is called.
 */
export type MeshName = {
/**
 * Its id.
 */
id: string,
/**
 * The name its founder gave it.
 */
name: string, };

/**
 * One value per node of the overview.
 */
export type Column = {
/**
 * Such as `cpu_busy`.
 */
name: string,
/**
 * `ratio` (0 to 1), `bytes/s`, or empty for plain numbers.
 */
unit: string, };

/**
 * One member of the mesh as the serving node sees it.
 */
export type Node = {
/**
 * What frames and requests call it. Never given to another node while the server runs.
 */
index: number,
/**
 * Its id, 52 letters.
 */
id: string,
/**
 * Its name, unique in the mesh.
 */
name: string,
/**
 * Whether it is heard.
 */
state: NodeState,
/**
 * `lan`, `direct`, `relay` or `none`; how the serving node reaches it. `none` for itself.
 */
path: string,
/**
 * Smoothed round trip in milliseconds; `null` until measured, and for itself.
 */
rtt_ms: number | null,
/**
 * Wall time of the newest row held of it; `null` where none is held.
 */
last_ms: number | null,
/**
 * Wall time of the oldest row held of it, or of whom it replaced; `null` where none is held.
 */
oldest_ms: number | null,
/**
 * The name of the machine whose place it took; its past is shown as this one's.
 */
former: string | null,
/**
 * The name of the machine that took its place.
 */
successor: string | null,
/**
 * Samples the serving node holds and this one has not got yet.
 */
backlog_samples: number,
/**
 * Its address inside the mesh.
 */
address: string,
/**
 * How many series it has. When this grows, ask for `series` again.
 */
series: number,
/**
 * Grows when rows that were missed have come in later: what was a gap may be filled.
 */
repairs: number, };

/**
 * Whether a node is heard.
 */
export type NodeState = "self" | "alive" | "stale" | "suspect" | "down" | "left" | "retired" | "evicted";

/**
 * One series of one node.
 */
export type SeriesInfo = {
/**
 * What requests call it: the same for as long as the server runs.
 */
index: number,
/**
 * Such as `node_cpu_seconds_total`.
 */
name: string,
/**
 * Such as `{"cpu": "0", "mode": "user"}`.
 */
labels: { [key in string]: string },
/**
 * Unit of the values as frames carry them: a counter of `bytes` comes as `bytes/s`, one of
 * `seconds` as `seconds/s`, one of plain numbers as `/s`.
 */
unit: string,
/**
 * How it is measured; frames carry counters as rates either way.
 */
kind: SeriesKind, };

/**
 * How a series is measured.
 */
export type SeriesKind = "counter" | "gauge";

/**
 * What stands at the head of a COLUMNS frame.
 */
export type ColumnsHeader = {
/**
 * Index of the node.
 */
node: number,
/**
 * Start of what was asked for, milliseconds since the Unix epoch.
 */
from_ms: number,
/**
 * Its end.
 */
to_ms: number,
/**
 * Time between two values where nothing is missing.
 */
step_ms: number,
/**
 * How many times, and values in each column.
 */
n: number,
/**
 * The columns, in order. Of the overview: its columns, `index` counting them.
 */
series: Array<SeriesInfo>, };

/**
 * What the page asks of its node. `request` is a number of the page's choice, given back with
 * the answer.
 */
export type ClientMessage = { "type": "overview",
/**
 * How far back the COLUMNS frames reach, up to an hour.
 */
window_ms: number, } | { "type": "series",
/**
 * Given back with the answer.
 */
request: number,
/**
 * Index of the node.
 */
node: number, } | { "type": "history",
/**
 * Given back with the answer.
 */
request: number,
/**
 * Index of the node.
 */
node: number,
/**
 * Indices of the series, at most 64.
 */
series: Array<number>,
/**
 * Start, milliseconds since the Unix epoch.
 */
from_ms: number,
/**
 * End.
 */
to_ms: number,
/**
 * About how many values a column may have; gaps may add to it.
 */
max_points: number, } | { "type": "watch",
/**
 * Given back in every LIVE frame.
 */
request: number,
/**
 * Index of the node.
 */
node: number,
/**
 * Indices of the series, at most 64.
 */
series: Array<number>, } | { "type": "unwatch" } | { "type": "pause" } | { "type": "resume" };
