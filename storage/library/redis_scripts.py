"""What runs inside Redis: a script is one round trip, and nothing comes between its commands.

Of a session there are three keys. ``session:ID`` is a MessagePack map: all that scripts decide by, and as ``fixed``
JSON that they do not read. ``messages:ID`` is a list, an item a line of what is counted and then the JSON; an empty
item was removed. ``places:ID`` is a hash of message id to place: the number of the message in the order of arrival.
The list begins behind ``offset``, and what lies up to ``floor`` was hidden by a deletion.

``index:all``, ``index:user:U`` and ``index:deleted`` are sorted sets of ids, the last written to first;
``index:agent:A`` and ``index:title:T`` are sorted by nothing. The id of an expired session leaves an index when that
is read (tests/contract/test_redis_store.py).
"""

from __future__ import annotations

DAMAGED = "STENO-DAMAGED["
"""What stands in the text of an error before the key, and a bracket, of what no script of ours wrote."""

APPEND = """
local prefix, id, added = unpack(cmsgpack.unpack(ARGV[1]))
local packed = redis.call('GET', KEYS[1])
local opened, h = pcall(cmsgpack.unpack, packed)
if not (packed and opened and type(h) == 'table' and h.ttl == 0 and h.status == 'active' and not h.deleted
        and (h.title or h.automatic ~= '')) then
    return 0
end
for at, each in ipairs(added) do
    if redis.call('HSETNX', prefix .. 'places:' .. id, each[1], h.pushed + at) == 0 then
        for before = 1, at - 1 do redis.call('HDEL', prefix .. 'places:' .. id, added[before][1]) end
        return 0
    end
    h.count, h.size = h.count + 1, h.size + each[2]
    if each[3] > h.newest then h.newest = each[3] end
end
for at = 1, #added do redis.call('RPUSH', prefix .. 'messages:' .. id, ARGV[at + 1]) end
h.pushed = h.pushed + #added
local score = string.format('%.0f', -math.max(h.touched, h.newest))
redis.call('ZADD', prefix .. 'index:all', score, id)
if h.user then redis.call('ZADD', prefix .. 'index:user:' .. h.user, score, id) end
packed = cmsgpack.pack(h)
redis.call('SET', KEYS[1], packed)
return packed
"""
"""What `SAVE` does where nothing is to be decided: 0, with nothing done, says that something is."""

_SESSION = """
local prefix, id = ARGV[1], ARGV[2]
local head, list, places = KEYS[1], prefix .. 'messages:' .. id, prefix .. 'places:' .. id

-- A session, and as it is packed; nil where there is none.
local function load(key)
    local packed = redis.call('GET', key)
    if not packed then return nil end
    local opened, h = pcall(cmsgpack.unpack, packed)
    if not (opened and type(h) == 'table' and h.pushed) then error('STENO-DAMAGED[' .. key .. ']') end
    return h, packed
end
"""

_WRITING = (
    _SESSION
    + """
local function parsed(item)
    local size, ms, message, title = string.match(item, '^(%d+)\\t(%d+)\\t([^\\t]*)\\t([^\\n]*)\\n')
    return tonumber(size), tonumber(ms), message, title
end

-- Calls visit with each item from a place of the list on, until that says true.
local function walk(at, visit)
    while true do
        local items = redis.call('LRANGE', list, at, at + 99)
        for step, item in ipairs(items) do
            if item ~= '' and visit(item, at + step) then return end
        end
        if #items < 100 then return end
        at = at + 100
    end
end

local function count(h, item)
    local size, ms, _, title = parsed(item)
    h.count, h.size, h.newest = h.count + 1, h.size + size, math.max(h.newest, ms)
    if h.automatic == '' then h.automatic = title end
end

local function forget(h, message)
    local place = tonumber(redis.call('HGET', places, message))
    if not place then return end
    local at = place - h.offset - 1
    if place > h.floor then
        h.count, h.size = h.count - 1, h.size - parsed(redis.call('LINDEX', list, at))
    end
    redis.call('LSET', list, at, '')
    redis.call('HDEL', places, message)
end

-- What only the messages that are left can tell; and a list that is cut at its beginning again and again stays short.
local function settle(h)
    while redis.call('LINDEX', list, 0) == '' do
        redis.call('LPOP', list)
        h.offset = h.offset + 1
    end
    h.automatic = ''
    walk(math.max(h.floor - h.offset, 0), function(item)
        local _, _, _, title = parsed(item)
        h.automatic = title
        return title ~= ''
    end)
    if h.newest > h.touched then
        h.newest = 0
        walk(math.max(h.floor - h.offset, 0), function(item)
            local _, ms = parsed(item)
            h.newest = math.max(h.newest, ms)
        end)
    end
end

local function indexes(h)
    if h.deleted then return {prefix .. 'index:deleted'} end
    local keys, title = {prefix .. 'index:all'}, h.title or h.automatic
    if h.user then keys[#keys + 1] = prefix .. 'index:user:' .. h.user end
    if h.agent then keys[#keys + 1] = prefix .. 'index:agent:' .. h.agent end
    if title ~= '' then keys[#keys + 1] = prefix .. 'index:title:' .. title end
    return keys
end

-- An index lives as long as the longest-lived of what stands in it.
local function enlist(h, key)
    local left = h.ttl > 0 and redis.call('TTL', key)
    redis.call('ZADD', key, -math.max(h.touched, h.newest), id)
    if left == -2 or (left and left >= 0 and left < h.ttl) then redis.call('EXPIRE', key, h.ttl) end
end

local function relist(h, before)
    local kept = {}
    for _, key in ipairs(indexes(h)) do
        kept[key] = true
        enlist(h, key)
        if h.ttl == 0 then redis.call('PERSIST', key) end
    end
    for _, key in ipairs(before) do
        if not kept[key] then redis.call('ZREM', key, id) end
    end
end
"""
)

SAVE = (
    _WRITING
    + """
local save = cmsgpack.unpack(ARGV[3])
local h = load(head)
if (not h or h.deleted) and not save.new then return false end
if save.version and save.version ~= (h and h.version or 0) then return 0 end

local removed, taken, lines = {}, {}, {}
if save.rewrites then
    for _, message in ipairs(save.removed) do removed[message] = true end
end
for at = 4, h and #ARGV or 0, 2 do
    local place = tonumber(redis.call('HGET', places, ARGV[at]))
    if place and not removed[ARGV[at]] and place > (save.cleared or 0) then
        taken[#taken + 1] = ARGV[at]
        lines[#lines + 1] = not h.deleted and place > h.floor and redis.call('LINDEX', list, place - h.offset - 1)
    end
end
if #taken > 0 then return {taken, lines} end

local ttl = save.ttl or 0
local before  -- the indexes that it stood in, where that may change or all are to live on
if save.fixed or save.rewrites or h.automatic == '' or h.ttl ~= ttl or ttl > 0 then before = h and indexes(h) or {} end

if not h then
    redis.call('DEL', list, places)  -- of one whose header somebody removed by hand
    -- Places begin at a time, so that those of a session of this id that is gone are not given again.
    h = {count = 0, size = 0, newest = 0, touched = save.created, version = 0, pushed = save.touched,
         offset = save.touched, floor = save.touched, status = 'active', automatic = ''}
elseif h.deleted then
    h.count, h.size, h.newest, h.touched = 0, 0, 0, math.max(h.touched, save.touched)
    h.floor, h.automatic, h.deleted = h.pushed, '', nil
end

if save.rewrites then
    if save.cleared and save.cleared >= h.pushed then
        redis.call('DEL', list, places)
        h.count, h.size, h.newest, h.offset, h.floor = 0, 0, 0, h.pushed, h.pushed
    elseif save.cleared then
        local gone = {}
        walk(0, function(item, at)
            if h.offset + at > save.cleared then return true end
            local _, _, message = parsed(item)
            gone[#gone + 1] = message
        end)
        for _, message in ipairs(gone) do forget(h, message) end
    end
    for _, message in ipairs(save.removed) do forget(h, message) end
    for _, each in ipairs(save.edited) do
        local place = tonumber(redis.call('HGET', places, each[1]))
        if place and place > h.floor then
            local at = place - h.offset - 1
            h.size = h.size - parsed(redis.call('LINDEX', list, at)) + parsed(each[2])
            redis.call('LSET', list, at, each[2])
        end
    end
    settle(h)
end

for at = 4, #ARGV, 2 do
    h.pushed = h.pushed + 1
    redis.call('HSET', places, ARGV[at], h.pushed)
    redis.call('RPUSH', list, ARGV[at + 1])
    count(h, ARGV[at + 1])
end
if #ARGV > 3 and h.status == 'archived' then
    h.status, h.touched = 'active', math.max(h.touched, save.touched)
end

if save.touches then h.touched = math.max(h.touched, save.touched) end
if save.fixed or save.rewrites then h.version = h.version + 1 end
if save.fixed then
    h.fixed, h.title, h.user, h.agent = save.fixed, save.title, save.user, save.agent
    h.status = save.status or h.status
end

local stood = h.ttl
h.ttl = ttl
if before then
    relist(h, before)
else
    enlist(h, prefix .. 'index:all')
    if h.user then enlist(h, prefix .. 'index:user:' .. h.user) end
end
local packed = cmsgpack.pack(h)
if ttl > 0 then
    redis.call('SET', head, packed, 'EX', ttl)
    redis.call('EXPIRE', list, ttl)
    redis.call('EXPIRE', places, ttl)
else
    redis.call('SET', head, packed)
    if stood ~= 0 then
        redis.call('PERSIST', list)
        redis.call('PERSIST', places)
    end
end
return packed
"""
)

HIDE = (
    _WRITING
    + """
local h, now = load(head), tonumber(ARGV[3])
if not h or h.deleted then return 0 end
local before = indexes(h)
h.deleted, h.touched, h.version = now, math.max(h.touched, now), h.version + 1
redis.call('SET', head, cmsgpack.pack(h), 'KEEPTTL')
relist(h, before)
return 1
"""
)

RESTORE = (
    _WRITING
    + """
local h, now = load(head), tonumber(ARGV[3])
if not h then return 0 end
if not h.deleted and h.floor <= h.offset then return 1 end
local before = indexes(h)
h.deleted, h.floor, h.touched, h.version = nil, h.offset, math.max(h.touched, now), h.version + 1
h.count, h.size, h.newest, h.automatic = 0, 0, 0, ''
walk(0, function(item) count(h, item) end)
redis.call('SET', head, cmsgpack.pack(h), 'KEEPTTL')
relist(h, before)
return 1
"""
)

PURGE = (
    _WRITING
    + """
local h = load(head)
if not h then return 0 end
redis.call('DEL', head, list, places)
for _, key in ipairs(indexes(h)) do redis.call('ZREM', key, id) end
return 1
"""
)

BASE = (
    _SESSION
    + """
local h, packed = load(head)
if not h then return false end
local items = {}
for at = 3, #ARGV do
    local place = tonumber(redis.call('HGET', places, ARGV[at]))
    items[#items + 1] = place and place > h.floor and redis.call('LINDEX', list, place - h.offset - 1) or false
end
return {packed, items}
"""
)
"""A header, and the items of some messages: what a save must know that changes what is there."""

NEWEST = (
    _SESSION
    + """
local h, limit = load(head), tonumber(ARGV[3])
if not h or h.deleted then return false end
local first = math.max(h.floor - h.offset, 0)
local from = limit < 0 and first or math.max(first, redis.call('LLEN', list) - limit)
return {h.pushed, from > first and 1 or 0, redis.call('LRANGE', list, from, -1)}
"""
)
"""The revision, whether there are older items than asked for, and the newest ones."""

PAGE = (
    _SESSION
    + """
local h, most = load(head), tonumber(ARGV[4])
if not h or h.deleted then return false end
local at = math.max(tonumber(ARGV[3]), h.floor, h.offset) - h.offset
local page, bytes = {}, 0
for _, item in ipairs(redis.call('LRANGE', list, at, at + 63)) do
    if bytes > most then break end
    page[#page + 1], bytes = item, bytes + #item
end
return {h.offset + at + #page, page}
"""
)
"""The items behind a place, one at least and so far as they stay near some bytes, and the place of the last."""

HEADERS = (
    _SESSION
    + """
local index, found = ARGV[3], {}
for at = 4, #ARGV do
    local packed = redis.call('GET', prefix .. 'session:' .. ARGV[at])
    found[#found + 1] = packed
    if not packed then redis.call('ZREM', prefix .. 'index:' .. index, ARGV[at]) end
end
return found
"""
)
"""The headers of some sessions; those that are gone leave the index."""

ALIVE = """
local prefix, index, alive = ARGV[1], ARGV[3], 0
for at = 4, #ARGV do
    if redis.call('EXISTS', prefix .. 'session:' .. ARGV[at]) == 1 then
        alive = alive + 1
    else
        redis.call('ZREM', prefix .. 'index:' .. index, ARGV[at])
    end
end
return alive
"""
"""How many of some sessions are there; those that are gone leave the index."""

PROFILE = """
local prefix, id = ARGV[1], ARGV[2]
redis.call('HSET', prefix .. 'profiles', id, ARGV[3])
if ARGV[4] == '' then
    redis.call('ZREM', prefix .. 'users', id)
else
    redis.call('ZADD', prefix .. 'users', ARGV[4], id)
end
"""
"""Keep the profile of a user, who is listed by a time, or no more."""
