use kprobe_programs::{
    block,
    memory::{Direct, Probed},
};

btf!(block_queue_btf, "block_bio_queue", block::submitted::<Direct>);
raw!(block_queue_raw, "block_bio_queue", block::submitted::<Probed>);
btf!(block_split_btf, "block_split", block::split::<Direct>);
raw!(block_split_raw, "block_split", block::split::<Probed>);
btf!(block_back_btf, "block_bio_backmerge", block::merged_behind::<Direct>);
raw!(block_back_raw, "block_bio_backmerge", block::merged_behind::<Probed>);
btf!(block_front_btf, "block_bio_frontmerge", block::merged_in_front::<Direct>);
raw!(block_front_raw, "block_bio_frontmerge", block::merged_in_front::<Probed>);
btf!(block_merge_btf, "block_rq_merge", block::request_merged::<Direct>);
raw!(block_merge_raw, "block_rq_merge", block::request_merged::<Probed>);
btf!(block_issue_btf, "block_rq_issue", block::issued::<Direct>);
raw!(block_issue_raw, "block_rq_issue", block::issued::<Probed>);
btf!(block_requeue_btf, "block_rq_requeue", block::requeued::<Direct>);
raw!(block_requeue_raw, "block_rq_requeue", block::requeued::<Probed>);
btf!(block_complete_btf, "block_rq_complete", block::completed::<Direct>);
raw!(block_complete_raw, "block_rq_complete", block::completed::<Probed>);
btf!(block_bio_complete_btf, "block_bio_complete", block::bio_completed::<Direct>);
raw!(block_bio_complete_raw, "block_bio_complete", block::bio_completed::<Probed>);
