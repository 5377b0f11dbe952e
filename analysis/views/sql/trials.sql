-- How every trial of the grid stands, and where its numbers come from.
--
-- reads    facts.trials(trial_id, cell_id, seed, those paths of the config that differ, status,
--                       steps, last_step, stop_reason, error, wall_s, claim)
--          facts.fixed(the other paths of the config; one row)
--          facts.attempts(claim, pack_id, attempt, pack_size, host, device, started_at,
--                         git_commit, dirty, versions)
-- params   $config  the config: one struct a part, everything else as it is
-- grain    one row per trial of the plan
-- columns  trial_id     text
--          cell_id      text
--          seed         int
--          status       text; pending, running, generalized, censored, diverged or failed
--          task         struct; like all parts null where the trainable has no such part
--          model        struct
--          regularizer  struct
--          selection    struct
--          optimizer    struct
--          ...          what else the trainable's config has
--          steps        int, optimizer steps; trained so far, or at its end
--          last_step    int, optimizer steps; last logged step, null before the first
--          stop_reason  text; generalized, horizon, diverged or failed; null while not ended
--          error        text; the traceback of a failed one
--          git_commit   text; provenance from here on: of the attempt that ended it, or that
--                       is or was last at work on it; null before the first
--          dirty        text; hash of the uncommitted changes, null where there were none
--          versions     map
--          host         text
--          device       text
--          pack_id      text
--          pack_size    int
--          attempt      int
--          started_at   timestamp, UTC
--          wall_s       float, seconds from started_at to the trial's end; null before

select
    t.trial_id, t.cell_id, t.seed, t.status, $config, t.steps, t.last_step, t.stop_reason, t.error,
    a.git_commit, a.dirty, a.versions, a.host, a.device, a.pack_id, a.pack_size, a.attempt,
    a.started_at, t.wall_s
from facts.trials as t
cross join facts.fixed as f
left join facts.attempts as a on a.claim = t.claim
