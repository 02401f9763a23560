"""Where SQLite's functions are in `sqlite3_api_routines`, the table of its C interface that it hands to extensions.

The order is that of sqlite3ext.h. Versions of SQLite only append to it, so that a function is in the same slot in all
versions that have it. Python reads the table through `c_api`; the loadable extension is compiled with `c_header()`.

This module imports nothing of the package, so that setup.py can run it.
"""

from __future__ import annotations

from typing import NamedTuple

OLDEST = 3_038_000  # version of SQLite that mediasql works with

# Names without `sqlite3_`, by the version whose table was the first to have them; 0 stands for 3.7.15 and before.
_ADDED = {
    0: """
        aggregate_context aggregate_count bind_blob bind_double bind_int bind_int64 bind_null
        bind_parameter_count bind_parameter_index bind_parameter_name bind_text bind_text16 bind_value
        busy_handler busy_timeout changes close collation_needed collation_needed16 column_blob column_bytes
        column_bytes16 column_count column_database_name column_database_name16 column_decltype
        column_decltype16 column_double column_int column_int64 column_name column_name16 column_origin_name
        column_origin_name16 column_table_name column_table_name16 column_text column_text16 column_type
        column_value commit_hook complete complete16 create_collation create_collation16 create_function
        create_function16 create_module data_count db_handle declare_vtab enable_shared_cache errcode errmsg
        errmsg16 exec expired finalize free free_table get_autocommit get_auxdata get_table global_recover
        interrupt last_insert_rowid libversion libversion_number malloc mprintf open open16 prepare prepare16
        profile progress_handler realloc reset result_blob result_double result_error result_error16 result_int
        result_int64 result_null result_text result_text16 result_text16be result_text16le result_value
        rollback_hook set_authorizer set_auxdata snprintf step table_column_metadata thread_cleanup
        total_changes trace transfer_bindings update_hook user_data value_blob value_bytes value_bytes16
        value_double value_int value_int64 value_numeric_type value_text value_text16 value_text16be
        value_text16le value_type vmprintf overload_function prepare_v2 prepare16_v2 clear_bindings
        create_module_v2 bind_zeroblob blob_bytes blob_close blob_open blob_read blob_write create_collation_v2
        file_control memory_highwater memory_used mutex_alloc mutex_enter mutex_free mutex_leave mutex_try
        open_v2 release_memory result_error_nomem result_error_toobig sleep soft_heap_limit vfs_find
        vfs_register vfs_unregister threadsafe result_zeroblob result_error_code test_control randomness
        context_db_handle extended_result_codes limit next_stmt sql status backup_finish backup_init
        backup_pagecount backup_remaining backup_step compileoption_get compileoption_used create_function_v2
        db_config db_mutex db_status extended_errcode log soft_heap_limit64 sourceid stmt_status strnicmp
        unlock_notify wal_autocheckpoint wal_checkpoint wal_hook blob_reopen vtab_config vtab_on_conflict
    """,
    3_007_016: """
        close_v2 db_filename db_readonly db_release_memory errstr stmt_busy stmt_readonly stricmp uri_boolean
        uri_int64 uri_parameter vsnprintf wal_checkpoint_v2
    """,
    3_008_007: """
        auto_extension bind_blob64 bind_text64 cancel_auto_extension load_extension malloc64 msize realloc64
        reset_auto_extension result_blob64 result_text64 strglob
    """,
    3_008_011: "value_dup value_free result_zeroblob64 bind_zeroblob64",
    3_009_000: "value_subtype result_subtype",
    3_010_000: "status64 strlike db_cacheflush",
    3_012_000: "system_errno",
    3_014_000: "trace_v2 expanded_sql",
    3_018_000: "set_last_insert_rowid",
    3_020_000: """
        prepare_v3 prepare16_v3 bind_pointer result_pointer value_pointer vtab_nochange value_nochange
        vtab_collation
    """,
    3_024_000: """
        keyword_count keyword_name keyword_check str_new str_finish str_appendf str_vappendf str_append
        str_appendall str_appendchar str_reset str_errcode str_length str_value
    """,
    3_025_000: "create_window_function",
    3_026_000: "normalized_sql",
    3_028_000: "stmt_isexplain value_frombind",
    3_030_000: "drop_modules",
    3_031_000: "hard_heap_limit64 uri_key filename_database filename_journal filename_wal",
    3_032_000: "create_filename free_filename database_file_object",
    3_034_000: "txn_state",
    3_036_001: "changes64 total_changes64",
    3_037_000: "autovacuum_pages",
    3_038_000: "error_offset vtab_rhs_value vtab_distinct vtab_in vtab_in_first vtab_in_next",
    3_039_000: "deserialize serialize db_name",
    3_040_001: "value_encoding",  # where 3.40.0 has value_type once more
    3_041_000: "is_interrupted",
    3_043_000: "stmt_explain",
    3_044_000: "get_clientdata set_clientdata",
    3_050_000: "setlk_timeout",
    3_051_000: "set_errmsg db_status64",
    3_052_000: "str_truncate str_free carray_bind carray_bind_v2",
}


class Routine(NamedTuple):
    """Where in the table a function is, and since which version of SQLite."""

    slot: int
    since: int


ROUTINES = {
    name: Routine(slot, since)
    for slot, (name, since) in enumerate((name, since) for since, names in _ADDED.items() for name in names.split())
}


def c_header() -> str:
    """Return this module as C: OLDEST, and ALL_ROUTINES(X), which lists X(name, slot, since) of all functions."""
    rows = " \\\n".join(f"  X({name}, {slot}, {since})" for name, (slot, since) in ROUTINES.items())
    return f"#define OLDEST {OLDEST}\n#define ALL_ROUTINES(X) \\\n{rows}\n"
