//! What Redis does in one step. Every script works on one server's keys, which lie in one slot.

use std::sync::LazyLock;

use redis::Script;

/// The pod that a record names, or false. Shared by the scripts below.
const POD_OF: &str = "
local function pod_of(record)
  local ok, read = pcall(cjson.decode, record)
  if ok and type(read) == 'table' and type(read.pod) == 'string' then return read.pod end
  return false
end
";

fn script(body: &str) -> Script {
    Script::new(&format!("{POD_OF}{body}"))
}

/// Pins a session, unless another pod has it. A tombstone of the session becomes a sign that it was pinned anew; a pin
/// that moves from another pod leaves such a sign too.
///
/// KEYS pins, pods, state, gone, then one set for each pod to count. ARGV key, record, pod, expiry, now, the record that
/// may be replaced (or empty), prefix of the pods' sets, how many tombstones to keep. Returns the record that stands in
/// the way (or empty), epoch, seq, the number of the sign (or empty), and the counts.
pub(super) static PIN: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
local key, record, pod, expiry, now, replace, prefix, keep = unpack(ARGV)
local reply, number = {''}, false
local old = redis.call('HGET', KEYS[1], key)
local old_pod = old and pod_of(old)
if old_pod and old_pod ~= pod and old ~= replace then
  local score = redis.call('ZSCORE', prefix .. old_pod, key)
  if score and tonumber(score) > tonumber(now) then reply[1] = old end
end
if reply[1] == '' then
  number = redis.call('ZSCORE', KEYS[4], key)
  if number then redis.call('ZREM', KEYS[4], key) end
  if old_pod and old_pod ~= pod then
    redis.call('ZREM', prefix .. old_pod, key)
    number = redis.call('HINCRBY', KEYS[3], 'gone', 1)
  end
  if number then
    redis.call('ZADD', KEYS[4], number, key .. '+')
    redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -1 - tonumber(keep))
  end
  redis.call('HSET', KEYS[1], key, record)
  redis.call('ZADD', prefix .. pod, expiry, key)
  redis.call('SADD', KEYS[2], pod)
  redis.call('HINCRBY', KEYS[3], 'seq', 1)
end
local state = redis.call('HMGET', KEYS[3], 'epoch', 'seq')
reply[2] = state[1] or ''
reply[3] = tonumber(state[2] or 0)
reply[4] = number and tostring(number) or ''
for at = 5, #KEYS do
  reply[at] = redis.call('ZCOUNT', KEYS[at], '(' .. now, '+inf')
end
return reply",
    )
});

/// Removes a pin, if it is to this pod, and leaves a tombstone: whether there was one or not, unless nobody knows of it.
///
/// KEYS pins, state, gone. ARGV key, pod, prefix of the pods' sets, how many tombstones to keep, and `unknown` where only
/// a pin that was there has to be told of. A tombstone keeps no later pin out, so none is needed for one under way.
pub(super) static UNPIN: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
local key, pod, prefix, keep, known = unpack(ARGV)
local old = redis.call('HGET', KEYS[1], key)
if old then
  local old_pod = pod_of(old)
  if old_pod and old_pod ~= pod then return 0 end
  redis.call('HDEL', KEYS[1], key)
end
if redis.call('ZREM', prefix .. pod, key) == 0 and not old and known == 'unknown' then return 0 end
local number = redis.call('HINCRBY', KEYS[2], 'gone', 1)
redis.call('ZREM', KEYS[3], key .. '+')
redis.call('ZADD', KEYS[3], number, key)
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(keep))
return 1",
    )
});

/// Writes pins back that may have been lost; never over a younger tombstone or another pin.
///
/// KEYS pins, pods, state, gone, then the set of each pod. ARGV prefix of the pods' sets, until when more may follow (or 0),
/// `lost` where that is so only if any of these was lost, then of each pod its name, and what stands before and after the path in its records; then of each pin the
/// number of its pod, key, expiry, path, and number of the tombstone that it is younger than (or empty). Returns the keys
/// that were refused.
pub(super) static RESTORE: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
local prefix, more, only, first = ARGV[1], ARGV[2], ARGV[3], 4 + 3 * (#KEYS - 4)
local keys, pod_in, used, lost, refused, written = {}, {}, {}, {}, {}, 0
for at = first, #ARGV, 5 do keys[#keys + 1] = ARGV[at + 1] end
local records = redis.call('HMGET', KEYS[1], unpack(keys))
local deletions = redis.call('ZMSCORE', KEYS[4], unpack(keys))
for of = 1, #KEYS - 4 do used[of] = {} end
local at = first
for number, key in ipairs(keys) do
  local of, record, gone = tonumber(ARGV[at]), records[number], deletions[number]
  local pod, before = ARGV[3 * of + 1], ARGV[3 * of + 2]
  local old_pod = pod_in[key]
  if record and not old_pod then
    -- The same pod's in most cases.
    if string.sub(record, 1, #before) == before then old_pod = pod else old_pod = pod_of(record) end
  end
  if (gone and gone ~= ARGV[at + 4]) or
    (old_pod and old_pod ~= pod and (pod_in[key] or redis.call('ZSCORE', prefix .. old_pod, key)))
  then
    refused[#refused + 1] = key
  else
    if gone then
      redis.call('ZREM', KEYS[4], key)
      redis.call('ZADD', KEYS[4], gone, key .. '+')
    end
    if old_pod ~= pod then
      lost[#lost + 1] = key
      lost[#lost + 1] = before .. ARGV[at + 3] .. ARGV[3 * of + 3]
    end
    pod_in[key] = pod
    local uses = used[of]
    uses[#uses + 1] = ARGV[at + 2]
    uses[#uses + 1] = key
    written = written + 1
  end
  at = at + 5
end
for of, uses in ipairs(used) do
  if #uses > 0 then
    redis.call('ZADD', KEYS[4 + of], 'GT', unpack(uses))
    redis.call('SADD', KEYS[2], ARGV[3 * of + 1])
  end
end
if written > 0 then redis.call('HINCRBY', KEYS[3], 'seq', written) end
if #lost > 0 then redis.call('HSET', KEYS[1], unpack(lost)) end
if (#lost > 0 or only ~= 'lost') and tonumber(more) > tonumber(redis.call('HGET', KEYS[3], 'until') or 0) then
  redis.call('HSET', KEYS[3], 'until', more)
end
return refused",
    )
});

/// Says that pins may have been lost, unless somebody said so already.
///
/// KEYS state. ARGV the epoch that was seen (or empty), the new one, until when pins are written back.
pub(super) static MARK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
if (redis.call('HGET', KEYS[1], 'epoch') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'until', ARGV[3])
return 1",
    )
});

/// Removes what has expired of one pod, and lets all keys of a server that nobody serves any more expire.
///
/// KEYS pins, pods, state, gone, the pod's set. ARGV pod, now, how many at most, lifetime of the keys in ms. Returns
/// how many it removed.
pub(super) static REAP: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
local pod, now, limit, lifetime = unpack(ARGV)
local dead = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, limit)
if #dead > 0 then
  local records, ours = redis.call('HMGET', KEYS[1], unpack(dead)), {}
  for at, key in ipairs(dead) do
    local old_pod = records[at] and pod_of(records[at])
    if records[at] and (not old_pod or old_pod == pod) then ours[#ours + 1] = key end
  end
  if #ours > 0 then redis.call('HDEL', KEYS[1], unpack(ours)) end
  redis.call('ZREM', KEYS[5], unpack(dead))
end
if redis.call('ZCARD', KEYS[5]) == 0 then redis.call('SREM', KEYS[2], pod) end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, lifetime) end
return #dead",
    )
});
