-- The first logged steps at which thresholds are reached.
--
-- Accuracies reach theirs at or above it, all other metrics at or below. A value that isn't finite
-- reaches nothing, and nothing reaches a threshold that is null.
--
-- reads    $curves: the query for rows (trial_id, step, train_value, test_value)
-- params   $rising  whether the metric is better when larger
--          $train   threshold of t1, in units of the metric
--          $test    threshold of t2, in units of the metric
-- grain    one row per trial with a logged step
-- columns  trial_id   text
--          t1         int, optimizer steps; null if never reached
--          t2         int, optimizer steps; null if never reached
--          t1_past    int, optimizer steps; last logged step that t1 is known to exceed, where t1
--                     is null; null here: it is the last one with a finite value
--          t2_past    int, optimizer steps; likewise
--          plain      bool; whether a missing step exceeds all logged ones with a finite value
--          last_step  int, optimizer steps; last logged one
--          logged     int; logged steps
--          gaps       bool; whether a value isn't finite
--          digest     int; fingerprint of the logged steps, as in staging.logged

select
    trial_id,
    min(step) filter (
        isfinite(train_value) and if($rising, train_value >= $train, train_value <= $train)
    ) as t1,
    min(step) filter (
        isfinite(test_value) and if($rising, test_value >= $test, test_value <= $test)
    ) as t2,
    null::bigint as t1_past,
    null::bigint as t2_past,
    true as plain,
    max(step) as last_step,
    count(*) as logged,
    count(*) filter (isfinite(train_value) and isfinite(test_value)) < count(*) as gaps,
    bit_xor(hash(step)) as digest
from ($curves)
group by trial_id
