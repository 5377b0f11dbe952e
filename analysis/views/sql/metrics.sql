-- The logged metrics of every trial of the grid, each logged step once.
--
-- reads    the metrics files that the ledger lists, and of them the rows that count
-- params   $rows    those rows
--          $shown   which of them belong to the grid
-- grain    one row per (trial, logged step)
-- columns  trial_id     text
--          step         int, optimizer steps taken before the measurement
--          train_loss   float; like all metrics null where it doesn't apply or isn't finite
--          test_loss    float
--          train_acc    float, share in [0, 1]
--          test_acc     float, share in [0, 1]
--          train_error  float, relative
--          test_error   float, relative
--          l1           float
--          l2           float
--          nuclear      float
--          ...          float; further metrics of the task

select * from ($rows) as counted
where $shown
