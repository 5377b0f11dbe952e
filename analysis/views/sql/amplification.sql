-- The cells of a search beside their reference cells: delays, their ratio, what objectives read.
--
-- A delay is counted as at least the log resolution; a median of counted delays is shown where
-- `cells` has a delay, so that what is censored there has bounds here and no ratio.
--
-- reads    trials(trial_id, cell_id, status), delays(all), metrics(trial_id, step, the criterion's), cells(all), criteria(task, metric)
-- params   $cells        list of the cells wanted
--          $references   list of the reference of each, in the same order
--          $delay_low    what the delay of a seed is known to be at least, see medians.DELAY_LOW
--          $counted      counted delay of a seed, see amplification.COUNTED
--          $train_value  the train metric of the trial's criterion
--          $test_value   the test metric, likewise
--          $objectives   expressions over these columns and those of `cells`
-- grain    one row per wanted cell, in their order
-- columns  cell_id                 text
--          reference_id            text
--          n_seeds                 int; this and all below null where the cell has no trial
--          n_memorized             int
--          n_generalized           int
--          n_diverged              int
--          n_failed                int
--          censored_share          float; this to t2 as in `cells`
--          phase                   text
--          delay                   int, optimizer steps
--          delay_low               int, optimizer steps
--          delay_high              int, optimizer steps
--          delay_level             float
--          delay_bound             int, optimizer steps
--          t1                      int, optimizer steps
--          t2                      int, optimizer steps
--          counted                 float, optimizer steps; median of the counted delays, at least
--                                  1; null where delay is, or where at most half of all seeds,
--                                  failed and missing ones included, have a known delay
--          log_delay               float; log10 of counted
--          reference_delay         int, optimizer steps; delay of the reference
--          reference_bound         int, optimizer steps; what exceeds it where it is censored
--          reference_counted       float, optimizer steps
--          amplification           float; counted / reference_counted, null without either
--          amplification_lower     float; the least it can be, where only the cell is censored
--          amplification_upper     float; the most it can be, where only the reference is
--          amplification_low       float; lower end of an interval of the amplification: the lower
--                                  end of the cell's delay over the upper one of the reference's,
--                                  both at least 1; null: unbounded
--          amplification_high      float; upper end, likewise
--          amplification_level     float; the level that the interval has at least: both ends hold
--                                  if both intervals do; null without an interval
--          log_amplification       float; log10 of amplification
--          final_train             float; median over seeds of the criterion's train metric at the
--                                  last logged step; seeds whose metric isn't finite don't count
--          final_test              float; test metric, likewise
--          violation               float; 0 if counted is known, else in (0, 1]: 1 - 2 k / (n + 1),
--                                  where k of the n seeds have a known delay; 1 without any trial
--          amplification_violation float; the larger of the cell's and its reference's

with wanted as materialized (
    select
        unnest($cells) as cell_id,
        unnest($references) as reference_id,
        unnest(range(len($cells))) as place
),
seeds as materialized (
    select
        t.trial_id, t.cell_id, t.status, t.task, d.delay, d.censored, d.last_step,
        d.last_step is not null and t.status <> 'failed' as counts,
        $delay_low as low,
        $counted as counted
    from trials as t
    join delays as d using (trial_id)
    where t.cell_id in (select cell_id from wanted union all select reference_id from wanted)
),
counts as (
    select
        cell_id,
        count(*) filter (status = 'failed') as n_failed,
        count(*) filter (counts and delay is not null and not censored) as n_known,
        seeds_median(
            list({'low': low, 'value': counted, 'high': counted}) filter (counts)
        ).median as counted
    from seeds
    group by cell_id
),
finals as (
    select cell_id, median($train_value) as final_train, median($test_value) as final_test
    from seeds as s
    join metrics as m on m.trial_id = s.trial_id and m.step = s.last_step
    group by cell_id
),
sides as (
    select
        c.*,
        k.n_failed,
        if(c.delay is null or 2 * k.n_known <= c.n_seeds, null, k.counted) as counted,
        if(c.delay_bound is null, null, greatest(c.delay_bound, 1)) as least,
        1 - 2 * k.n_known / (c.n_seeds + 1) as lacks,
        f.final_train,
        f.final_test
    from cells as c
    join counts as k using (cell_id)
    left join finals as f using (cell_id)
),
joined as (
    select
        w.cell_id,
        w.reference_id,
        w.place,
        s.* exclude (cell_id),
        r.delay as reference_delay,
        r.delay_bound as reference_bound,
        r.counted as reference_counted,
        s.counted / r.counted as amplification,
        s.least / r.counted as amplification_lower,
        s.counted / r.least as amplification_upper,
        log10(s.counted) as log_delay,
        log10(s.counted / r.counted) as log_amplification,
        -- a reference beside itself is 1 exactly: it has no interval
        if(w.cell_id = w.reference_id, null, s.delay_level + r.delay_level - 1) as joint,
        if(joint > 0, joint, null) as amplification_level,
        -- `greatest` leaves nulls out, and a null end is unbounded
        if(joint > 0 and r.delay_high is not null,
            greatest(s.delay_low, 1) / greatest(r.delay_high, 1), null) as amplification_low,
        if(joint > 0 and s.delay_high is not null,
            greatest(s.delay_high, 1) / greatest(r.delay_low, 1), null) as amplification_high,
        if(s.counted is null, coalesce(s.lacks, 1), 0)::double as violation,
        greatest(violation, if(r.counted is null, coalesce(r.lacks, 1), 0))::double
            as amplification_violation
    from wanted as w
    left join sides as s on s.cell_id = w.cell_id
    left join sides as r on r.cell_id = w.reference_id
)
select
    cell_id, reference_id, n_seeds, n_memorized, n_generalized, n_diverged, n_failed,
    censored_share, phase, delay, delay_low, delay_high, delay_level, delay_bound, t1, t2, counted,
    log_delay, reference_delay, reference_bound, reference_counted, amplification, amplification_lower,
    amplification_upper, amplification_low, amplification_high, amplification_level,
    log_amplification, final_train, final_test, violation,
    amplification_violation $objectives
from joined as cells
order by place
