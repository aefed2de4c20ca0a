use kprobe_programs::fault;

entry!(memory_fault_entry, "handle_mm_fault", fault::entered);
kprobe!(memory_fault_kprobe, "handle_mm_fault", fault::entered_frame);
// Both tracepoints have these arguments.
raw!(memory_fault_user_raw, "page_fault_user", fault::raised);
raw!(memory_fault_kernel_raw, "page_fault_kernel", fault::raised);

exit!(memory_fault_major_exit, "handle_mm_fault", fault::major_returned);
kretprobe!(memory_fault_major_kretprobe, "handle_mm_fault", fault::major_left);
perf!(memory_fault_major_perf, fault::major_counted);

exit!(memory_fault_minor_exit, "handle_mm_fault", fault::minor_returned);
kretprobe!(memory_fault_minor_kretprobe, "handle_mm_fault", fault::minor_left);
perf!(memory_fault_minor_perf, fault::minor_counted);
