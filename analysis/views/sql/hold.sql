-- The first logged steps from which on thresholds are reached several times in a row.
--
-- As firsts.sql, but the condition has to hold for $hold logged steps; the first of them counts.
-- Rows whose value isn't finite are left out. A run of rows that the end of the curve cuts short
-- isn't known to reach $hold, so nothing is known of the steps from its beginning on.
--
-- reads    $curves: the query for rows (trial_id, step, train_value, test_value)
-- params   $rising  whether the metric is better when larger
--          $train   threshold of t1, in units of the metric
--          $test    threshold of t2, in units of the metric
--          $hold    logged steps in a row, at least 1
-- grain    one row per trial with a logged step
-- columns  as in firsts.sql

with marked as (
    select
        trial_id,
        step,
        isfinite(train_value) as train_is,
        isfinite(test_value) as test_is,
        coalesce(train_is and if($rising, train_value >= $train, train_value <= $train), false)
            as train_holds,
        coalesce(test_is and if($rising, test_value >= $test, test_value <= $test), false)
            as test_holds
    from ($curves)
),
-- rows that hold belong to one run if no finite row between them fails
numbered as (
    select
        *,
        count(*) filter (train_is and not train_holds) over w as train_run,
        count(*) filter (test_is and not test_holds) over w as test_run
    from marked
    window w as (partition by trial_id order by step)
),
train as (
    select trial_id, min(step) as t1
    from (
        select trial_id, min(step) as step
        from numbered
        where train_holds
        group by trial_id, train_run
        having count(*) >= $hold
    )
    group by trial_id
),
test as (
    select trial_id, min(step) as t2
    from (
        select trial_id, min(step) as step
        from numbered
        where test_holds
        group by trial_id, test_run
        having count(*) >= $hold
    )
    group by trial_id
),
ends as (
    select
        trial_id,
        max(step) filter (train_is and not train_holds) as train_after,
        max(step) filter (test_is and not test_holds) as test_after,
        max(step) as last_step,
        count(*) as logged,
        count(*) filter (train_is and test_is) < count(*) as gaps,
        bit_xor(hash(step)) as digest
    from numbered
    group by trial_id
)
select
    trial_id,
    t1,
    t2,
    if(t1 is null, train_after, null) as t1_past,
    if(t2 is null, test_after, null) as t2_past,
    false as plain,
    last_step,
    logged,
    gaps,
    digest
from ends
left join train using (trial_id)
left join test using (trial_id)
