"""Every sentence a chat user or an operator may see, in Chinese and English, in one catalogue.

`say(key, locale, **values)`; the console's templates use the same catalogue. Each area keeps its own dictionary below.
"""

from __future__ import annotations

from bot.console_texts import CONSOLE

CHAT: dict[str, tuple[str, str]] = {
    # key: (zh, en)
    "error.internal": (
        "抱歉，出了点问题，这次没能回答。请再试一次。",
        "Sorry, something went wrong and I could not answer. Please try again.",
    ),
    "error.model": (
        "抱歉，回答服务暂时不可用，请稍后再试。",
        "Sorry, the answering service is unavailable right now. Please try again later.",
    ),
    "error.too_long": (
        "消息太长了，最多 {limit} 个字。请缩短后再发。",
        "That message is too long: at most {limit} characters. Please shorten it and send again.",
    ),
    "error.empty": ("请先输入问题。", "Please type a question first."),
    "error.rate_limited": (
        "您发得太快了，请 {seconds} 秒后再试。",
        "You are sending too fast. Please try again in {seconds} s.",
    ),
    "blocked": ("抱歉，这个问题我不能回答。", "Sorry, I cannot answer that."),
    "handoff": ("正在为您转接人工客服，请稍候。", "I am connecting you with a colleague. Please wait a moment."),
    "stopped": ("（已停止）", "(stopped)"),
}

WIDGET: dict[str, tuple[str, str]] = {
    # the web chat; {name} is filled in by the browser
    "widget.launch": ("打开对话", "Open chat"),
    "widget.close": ("关闭对话", "Close chat"),
    "widget.new": ("新对话", "New conversation"),
    "widget.log": ("对话记录", "Conversation"),
    "widget.input": ("输入问题", "Your question"),
    "widget.placeholder": ("想问点什么？", "Ask anything…"),
    "widget.send": ("发送", "Send"),
    "widget.stop": ("停止回答", "Stop answering"),
    "widget.notice": ("回答由 AI 生成，请核对重要信息", "Answers are made by AI. Check what matters."),
    "widget.suggested": ("可以这样问", "You could ask"),
    "widget.followups": ("接着问", "Ask next"),
    "widget.newest": ("回到最新", "Jump to newest"),
    "widget.you": ("您", "You"),
    "widget.copy": ("复制", "Copy"),
    "widget.copied": ("已复制", "Copied"),
    "widget.code": ("代码", "Code"),
    "widget.table": ("表格", "Table"),
    "widget.up": ("有帮助", "Helpful"),
    "widget.down": ("没有帮助", "Not helpful"),
    "widget.thanks": ("谢谢您的反馈", "Thank you for telling us"),
    "widget.comment": ("哪里可以改进？（选填）", "What could be better? (optional)"),
    "widget.comment_send": ("提交", "Submit"),
    "widget.again": ("重新回答", "Answer again"),
    "widget.retry": ("重试", "Try again"),
    "widget.retry_in": ("{seconds} 秒后可重试", "Try again in {seconds} s"),
    "widget.sources": ("来源", "Sources"),
    "widget.source": ("来源 {n}：{title}", "Source {n}: {title}"),
    "widget.source_open": ("打开原文", "Open the original"),
    "widget.source_close": ("关闭来源", "Close the source"),
    "widget.sending": ("正在发送…", "Sending…"),
    "widget.waiting": ("正在等待…", "Waiting…"),
    "widget.moderating": ("正在读您的问题…", "Reading your question…"),
    "widget.recalling": ("正在回想前文…", "Recalling the conversation…"),
    "widget.retrieving": ("正在检索资料…", "Searching the documents…"),
    "widget.thinking": ("正在思考…", "Thinking…"),
    "widget.tool": ("正在使用工具…", "Using a tool…"),
    "widget.lost": ("连接已断开，正在重新连接…", "Connection lost. Reconnecting…"),
    "widget.regained": ("已重新连接", "Connected again"),
    "widget.unreachable": (
        "暂时连不上，请检查网络后再试。",
        "The chat cannot be reached. Check your connection and try again.",
    ),
    "widget.failed": ("没有发送成功。", "Your message was not sent."),
    "widget.expired": ("上次的对话已过期，已为您开始新对话。", "The earlier conversation has expired. This is a new one."),
    "widget.not_saved": ("反馈没有保存成功，请再试一次。", "Your feedback was not saved. Please try again."),
    "widget.not_copied": ("没有复制成功，请手动选择文字。", "Could not copy. Please select the text by hand."),
    "widget.stopped": ("已停止", "Stopped"),
    "widget.length": ("回答太长，到此为止", "The answer reached its length limit"),
    "widget.too_long": ("超出 {over} 字，最多 {limit} 字", "{over} characters too many; the limit is {limit}"),
    "widget.left": ("还可输入 {left} 字", "{left} characters left"),
    "widget.needs_script": (
        "请在浏览器中启用 JavaScript 后使用对话。",
        "Please enable JavaScript in your browser to use the chat.",
    ),
    "chat.missing.title": ("没有找到这个对话", "There is no such chat"),
    "chat.missing.text": (
        "请检查网址，或请网站的主人确认这个渠道已经启用。",
        "Check the address, or ask the site's owner whether this channel is enabled.",
    ),
    "home.title": ("青鸟", "Qingniao"),
    "home.lead": ("用您自己的资料，回答每一位来客。", "Answers every visitor from your own documents."),
    "home.chat": ("和演示店铺对话", "Chat with the demo shop"),
    "home.chat_hint": ("不需要密钥，现在就能问", "No key needed: ask right now"),
    "home.console": ("打开控制台", "Open the console"),
    "home.console_hint": ("机器人、模型、知识库与对话", "Bots, models, knowledge, conversations"),
    "home.docs": ("阅读文档", "Read the docs"),
    "home.docs_hint": ("从安装到上线", "From installing to going live"),
    "home.docs_all": ("全部文档", "All pages"),
    "home.no_chat": ("还没有网页渠道，请先在控制台添加。", "There is no web channel yet. Add one in the console."),
    "home.other_language": ("English", "中文"),
}

CLI: dict[str, tuple[str, str]] = {
    # the command line
    "cli.yaml.empty": ("文件是空的。请写入配置后再应用。", "the file is empty. Write a configuration into it first."),
    "cli.yaml.too_large": (
        "{path} 超过 {limit} MB。请拆小，长词表放进 keywords_file。",
        "{path} is larger than {limit} MB. Split it; long word lists go into a keywords_file.",
    ),
    "cli.yaml.deep": (
        "嵌套超过 {limit} 层。请检查缩进和括号。",
        "this is nested more than {limit} deep. Check the indentation and brackets.",
    ),
    "cli.yaml.aliases": (
        "别名展开后太大或指向自身。请把内容直接写出来。",
        "aliases here grow too large or refer to themselves. Write the values out.",
    ),
    "cli.yaml.syntax": (
        "YAML 写法有误（{reason}）。请检查这一行的缩进、引号和冒号。",
        "this is not valid YAML ({reason}). Check the indentation, quotes and colons of this line.",
    ),
    "cli.yaml.tag": (
        "这里只能写文字、数字、true/false、列表或映射，不能写 {tag}。",
        "only text, numbers, true/false, lists and mappings may stand here, not {tag}.",
    ),
    "cli.yaml.key": ("键必须是文字。请给它加上引号。", "a key must be text. Put it in quotes."),
    "cli.yaml.duplicate": (
        "键 {field} 重复了，第 {line} 行已经写过。请删掉一个。",
        "the key {field} stands here twice (line {line} has it). Remove one.",
    ),
    "cli.file.unreadable": (
        "{path} 读不了（{reason}）。请检查路径和权限。",
        "{path} cannot be read ({reason}). Check the path and its permissions.",
    ),
    "cli.file.not_utf8": ("不是 UTF-8 文字。请用 UTF-8 重新保存。", "this is not UTF-8 text. Save the file as UTF-8."),
    "cli.file.too_large": (
        "文件超过 {limit} MB。请拆成小一些的文件。",
        "the file is larger than {limit} MB. Split it into smaller ones.",
    ),
    "cli.file.folder": ("这是文件夹。请逐个写出里面的文件。", "this is a folder. Name its files one by one."),
    "cli.file.gone": ("原文件已经不在，继续使用已保存的内容。", "the file is gone; what was stored from it stays."),
    "cli.file.exists": (
        "{path} 已经存在。请换个文件名，或先移走它。",
        "{path} exists already. Take another name, or move it away.",
    ),
    "cli.config.not_mapping": (
        "最外层必须是 providers、bots 这样的键。",
        "the outermost level must be keys such as providers and bots.",
    ),
    "cli.config.unknown_key_near": ("没有这个键。您是不是想写 {near}？", "there is no such key. Did you mean {near}?"),
    "cli.config.unknown_key": ("没有这个键。这里可以写：{known}。", "there is no such key. Known here: {known}."),
    "cli.config.missing": ("缺少 {field}。请补上。", "{field} is missing. Add it."),
    "cli.config.text": (
        "必须是文字。数字、true 和 no 这样的值请加引号。",
        "must be text. Put values such as numbers, true and no in quotes.",
    ),
    "cli.config.whole": ("必须是整数，不加引号。", "must be a whole number, without quotes."),
    "cli.config.number": ("必须是数字，不加引号。", "must be a number, without quotes."),
    "cli.config.bool": ("必须是 true 或 false，不加引号。", "must be true or false, without quotes."),
    "cli.config.list": (
        "必须是列表：写成 [甲, 乙]，或每行一个“- ”；没有内容就去掉这个键。",
        'must be a list: [one, two], or a line with "- " for each; leave the key out if there is none.',
    ),
    "cli.config.mapping": ("必须是“键: 值”的形式。", 'must be a mapping of "key: value".'),
    "cli.config.pattern": (
        "名称只能用字母、数字、点、下划线和连字符，以字母或数字开头，最多 64 个字符。",
        "a name takes letters, digits, dots, underscores and hyphens, starts with a letter or digit, and has at most 64 characters.",
    ),
    "cli.config.base_url": ("必须以 http:// 或 https:// 开头。", "must start with http:// or https://."),
    "cli.config.url": ("必须是以 http:// 或 https:// 开头的网址。", "must be an address that starts with http:// or https://."),
    "cli.config.at_least": ("不能小于 {limit}。", "must be at least {limit}."),
    "cli.config.at_most": ("不能大于 {limit}。", "must be at most {limit}."),
    "cli.config.too_short": ("不能少于 {limit} 个字符。", "must have at least {limit} character(s)."),
    "cli.config.too_long": ("不能超过 {limit} 个字符。", "must have at most {limit} characters."),
    "cli.config.too_many": ("最多 {limit} 项。", "must have at most {limit} items."),
    "cli.config.one_of": ("只能是 {limit} 之一。", "must be one of {limit}."),
    "cli.config.wrong": ("不对：{reason}。", "is wrong: {reason}."),
    "cli.config.twice": (
        "{name} 重复了，第 {line} 行已经有了。请改名或删掉。",
        "{name} stands here twice (line {line} has it). Rename or remove one.",
    ),
    "cli.config.document_twice": (
        "这个文档在本知识库里写了两次。请删掉一个。",
        "this document is named twice in this base. Remove one.",
    ),
    "cli.config.no_such_near": ("没有 {name}。您是不是想写 {near}？", "there is no {name}. Did you mean {near}?"),
    "cli.config.no_such": ("没有 {name}。请先在 {section} 里加上它。", "there is no {name}. Add it under {section} first."),
    "cli.config.embedding": (
        "知识库 {name} 已用 {before} 建立，不能改成 {after}。请换个名字新建一个知识库。",
        "the base {name} was made with {before} and cannot change to {after}. Make a new base under another name.",
    ),
    "cli.config.either": ("{one} 和 {other} 只能写一个。", "write {one} or {other}, not both."),
    "cli.config.exactly_one": ("{one} 和 {other} 必须写一个，且只写一个。", "write exactly one of {one} and {other}."),
    "cli.config.kind_later": (
        "{kind} 渠道将在以后的版本提供。目前可用：{known}。",
        "channels of the kind {kind} come in a later version. For now there is: {known}.",
    ),
    "cli.config.kind": ("没有 {kind} 这种渠道。目前可用：{known}。", "there is no kind of channel {kind}. There is: {known}."),
    "cli.config.kind_changed": (
        "这个渠道原来是 {before}，种类不能改。请换个名字。",
        "this channel is of the kind {before}, which cannot change. Take another name.",
    ),
    "cli.config.env": (
        "环境变量 {name} 是空的。请设置后再应用。",
        "the environment variable {name} is empty. Set it, then apply again.",
    ),
    "cli.apply.nothing": ("没有需要改的。", "Nothing to change."),
    "cli.apply.would": (
        "以上是将要做的改动（--dry-run），什么都没有改。",
        "That is what would change (--dry-run); nothing was changed.",
    ),
    "cli.apply.done": ("已应用 {count} 处改动。", "Applied {count} change(s)."),
    "cli.apply.queued": (
        "{count} 个文档已排队，正在后台读取。进度见控制台。",
        "{count} document(s) queued for reading in the background; the console shows the progress.",
    ),
    "cli.apply.waiting": (
        "{count} 个文档已登记，但队列连不上；make run 启动后会自动读取。",
        "{count} document(s) noted, but the queue cannot be reached; they are read once `make run` is up.",
    ),
    "cli.apply.changed": ("（已更改）", "(changed)"),
    "cli.apply.content": ("（内容已更改）", "(content changed)"),
    "cli.apply.moved": ("（从 {path} 移来）", "(moved from {path})"),
    "cli.apply.conversations": ("（连同 {count} 个对话）", "(with its {count} conversations)"),
    "cli.export.others": (
        "上传的文件和逐行导入的内容不在这个文件里（{counts}）。用 flask backup 可以一起保存。",
        "Uploaded files and imported rows are not in this file ({counts}); `flask backup` keeps them.",
    ),
    "cli.not_migrated": (
        "数据库还没有准备好。请先运行一次 make run。",
        "The database is not prepared yet. Run `make run` once first.",
    ),
    "cli.database": (
        "数据库没有完成操作（{reason}）。请运行 flask doctor 看看。",
        "The database did not do it ({reason}). Run `flask doctor` to see why.",
    ),
    "cli.file.not_utf8_named": ("{path} 不是 UTF-8 文字。请用 UTF-8 重新保存。", "{path} is not UTF-8 text. Save it as UTF-8."),
    "cli.moderate.one": ("请给出一段文字，或用 --file 给出文件，二选一。", "Give either a text or --file."),
    "cli.moderate.pass": ("通过：没有找到词表里的词。", "pass: no listed word was found."),
    "cli.moderate.block": ("拦截：", "block:"),
    "cli.moderate.mask": ("打码：", "mask:"),
    "cli.moderate.review": ("待复核：", "review:"),
    "cli.user.created": ("已创建用户 {name}。", "Made the user {name}."),
    "cli.user.password_set": (
        "已更改 {name} 的密码，其他登录已退出。",
        "Changed the password of {name}; other sessions have ended.",
    ),
    "cli.user.none": ("还没有用户。用 flask user create 创建。", "There are no users yet. Make one with `flask user create`."),
    "cli.user.no_stdin": ("标准输入里没有密码。", "There is no password on standard input."),
    "cli.user.no_terminal": (
        "这里没有终端可以输入密码。请加 --password-stdin，从标准输入读取。",
        "There is no terminal to ask for the password. Pass it on standard input with --password-stdin.",
    ),
    "cli.user.prompt": ("密码", "Password"),
    "cli.user.again": ("再输一遍", "Again"),
    "cli.backup.unwritable": (
        "{path} 写不了（{reason}）。请换个位置或腾出空间。",
        "{path} cannot be written ({reason}). Take another place, or free some space.",
    ),
    "cli.backup.done": (
        "已备份到 {path}（{size}）：{rows} 行，{documents} 个文件。",
        "Backed up to {path} ({size}): {rows} rows, {documents} files.",
    ),
    "cli.backup.key": (
        "备份里有解密密钥，请像密码一样保管（文件权限已设为 0600）。",
        "The backup holds the key to the stored secrets: keep it like a password (its mode is 0600).",
    ),
    "cli.backup.no_key": (
        "密钥来自环境变量 SECRET_KEY，没有放进备份；恢复时请设置同一个值。",
        "SECRET_KEY comes from the environment and is not inside: set the same one when you restore.",
    ),
    "cli.restore.not_empty": (
        "这里已经有数据（{found}）。要全部替换请加 --yes。",
        "There is data here already ({found}). To replace all of it, add --yes.",
    ),
    "cli.restore.damaged": (
        "{path} 不是完好的备份文件，什么都没有改。请换一份备份。",
        "{path} is not a whole backup of ours; nothing was changed. Take another one.",
    ),
    "cli.restore.version": (
        "备份的数据库版本是 {theirs}，这里是 {ours}，什么都没有改。请用同一版本的程序恢复，然后再升级。",
        "The backup's schema is {theirs}, this one's is {ours}; nothing was changed. Restore it with the version that made it, then update.",
    ),
    "cli.restore.key": (
        "备份里的密钥是用另一个 SECRET_KEY 加密的。请先设置那个 SECRET_KEY，什么都没有改。",
        "The secrets in the backup were encrypted with another SECRET_KEY; nothing was changed. Set that one first.",
    ),
    "cli.restore.io": (
        "{path} 恢复不了（{reason}），什么都没有改。请检查权限和磁盘空间。",
        "{path} could not be restored ({reason}); nothing was changed. Check permissions and disk space.",
    ),
    "cli.restore.done": (
        "已恢复 {made_at} 的备份：{rows} 行，{documents} 个文件。",
        "Restored the backup of {made_at}: {rows} rows, {documents} files.",
    ),
    "cli.restore.index": ("向量索引已重建：{count} 段。", "Rebuilt the vector index: {count} passages."),
    "cli.restore.index_later": (
        "向量索引暂时连不上，启动后会自动重建。",
        "The vector index does not answer; it is rebuilt once it is up.",
    ),
    "cli.restore.restart": (
        "请现在重新启动 make run，让每个进程都用上恢复的数据。",
        "Restart `make run` now, so that no process goes on with what it remembers.",
    ),
    "cli.erase.done": ("已删除 {channel} 渠道用户 {user} 的全部痕迹：", "Removed every trace of {user} on {channel}:"),
    "cli.erase.nothing": ("没有找到 {channel} 渠道用户 {user} 的任何数据。", "There was nothing of {user} on {channel}."),
    "cli.erase.conversation": ("对话 {count}", "conversations: {count}"),
    "cli.erase.turn": ("问答 {count}", "turns: {count}"),
    "cli.erase.message": ("消息 {count}", "messages: {count}"),
    "cli.erase.rows": ("{table} {count} 行", "{table}: {count} rows"),
    "cli.erase.redis": ("缓存和队列 {count} 项", "cache and queue: {count} entries"),
    "cli.erase.vectors": ("向量 0（对话不进入向量索引）", "vectors: 0 (chats are never indexed)"),
    "cli.erase.no_redis": (
        "Redis 连不上：里面的事件流几分钟后自行过期。恢复后请再运行一次。",
        "Redis did not answer: the event streams there run out within minutes. Run this again once it is up.",
    ),
    "cli.erase.backups": ("以前的备份文件里仍有这些内容，请另行处理。", "Backups made before this still hold it."),
    "cli.ask.late": (
        "等了 {seconds} 秒还没有答完。请运行 flask doctor 看看。",
        "No answer within {seconds} s. Run `flask doctor` to see why.",
    ),
    "cli.ask.total": ("共 {ms} 毫秒 · 模型 {model} · {tokens} 个 token", "{ms} ms in all · model {model} · {tokens} tokens"),
    "cli.ask.total_here": (
        "共 {ms} 毫秒 · 模型 {model} · {tokens} 个 token（系统没有运行，在本进程内回答）",
        "{ms} ms in all · model {model} · {tokens} tokens (nothing is running: answered in this process)",
    ),
    # flask doctor
    "doctor.public_url": (
        "服务对外监听，但 PUBLIC_URL 还是 {url}，别人打不开。请把它设为对外的网址。",
        "the web process listens to the outside, but PUBLIC_URL is {url}, which nobody else can open. Set it to the public address.",
    ),
    "doctor.no_tls": (
        "{url} 没有加密。请在前面加一个 HTTPS 反向代理，并改好 PUBLIC_URL。",
        "{url} is not encrypted. Put an HTTPS proxy in front and set PUBLIC_URL to it.",
    ),
    "doctor.settings": ("环境变量没有问题，对外网址 {url}", "the environment is sound; the public address is {url}"),
    "doctor.disk_full": (
        "{path} 只剩 {megabytes} MB。请腾出空间。",
        "only {megabytes} MB are free in {path}. Free some space.",
    ),
    "doctor.disk_low": (
        "{path} 还剩 {megabytes} MB，请尽快腾出空间。",
        "{megabytes} MB are free in {path}; free some more soon.",
    ),
    "doctor.disk": ("{path} 还有 {megabytes} MB 可用", "{megabytes} MB are free in {path}"),
    "doctor.key_mode": ("{path} 别人也能读。请运行 chmod 600 {path}", "others may read {path}. Run `chmod 600 {path}`"),
    "doctor.database_damaged": (
        "数据库文件损坏（{reason}）。请从备份恢复：flask restore 文件 --yes",
        "the database file is damaged ({reason}). Restore a backup: `flask restore FILE --yes`",
    ),
    "doctor.database_old": (
        "数据库版本是 {here}，程序需要 {wanted}。请运行 make run（或 flask prepare）升级。",
        "the database is of version {here}, this program wants {wanted}. Run `make run` (or `flask prepare`).",
    ),
    "doctor.database": ("{kind} 正常，版本 {schema}", "{kind} answers, version {schema}"),
    "doctor.no_user": (
        "还没有控制台用户。请运行 flask user create 名字",
        "there is no console user yet. Run `flask user create NAME`",
    ),
    "doctor.redis": ("Redis {version} 正常", "Redis {version} answers"),
    "doctor.redis_embedded_down": (
        "内置 Redis 没有运行。请启动：make run",
        "the embedded Redis is not running. Start everything: `make run`",
    ),
    "doctor.redis_down": (
        "REDIS_URL 指向的 Redis 连不上（{reason}）。请检查地址和密码。",
        "the Redis at REDIS_URL does not answer ({reason}). Check its address and password.",
    ),
    "doctor.replies": ("回答进程 {count} 个", "reply workers alive: {count}"),
    "doctor.no_replies": (
        "没有回答进程，问题没有人答。请启动 make run，或单独运行 flask replies",
        "no reply worker lives, so nothing is answered. Start `make run`, or `flask replies` by itself",
    ),
    "doctor.heavy": ("后台进程 {count} 个", "document workers alive: {count}"),
    "doctor.no_heavy": (
        "没有后台进程，文档不会被读取。请启动 make run，或单独运行 flask worker",
        "no document worker lives, so documents are not read. Start `make run`, or `flask worker` by itself",
    ),
    "doctor.clock": ("定时进程 {count} 个", "clocks alive: {count}"),
    "doctor.no_clock": (
        "没有定时进程，中断的回答不会接着做。请启动 make run，或单独运行 flask cron",
        "no clock runs, so interrupted answers are not taken up again. Start `make run`, or `flask cron` by itself",
    ),
    "doctor.index": (
        "向量索引 {embedding}：{rows} 段，与数据库一致",
        "vector index {embedding}: {rows} passages, as in the database",
    ),
    "doctor.index_differs": (
        "向量索引 {embedding} 有 {held} 段，数据库有 {rows} 段；几分钟内会自动补齐",
        "vector index {embedding} holds {held} passages, the database {rows}; it mends itself within minutes",
    ),
    "doctor.index_empty": ("向量索引正常，还没有内容", "the vector index answers; nothing is in it yet"),
    "doctor.index_embedded_down": (
        "内置 Milvus 没有运行（检索只剩字面匹配）。请启动：make run",
        "the embedded Milvus is not running (searches go by words alone). Start everything: `make run`",
    ),
    "doctor.index_down": (
        "MILVUS_URI 指向的 Milvus 连不上（{reason}）。请检查地址和 MILVUS_TOKEN。",
        "the Milvus at MILVUS_URI does not answer ({reason}). Check the address and MILVUS_TOKEN.",
    ),
    "doctor.embedding": ("内置向量模型正常（{dim} 维）", "the builtin embedding model works ({dim} dimensions)"),
    "doctor.embedding_broken": (
        "内置向量模型不能用（{reason}）。请重新安装：make run",
        "the builtin embedding model does not work ({reason}). Install it again: `make run`",
    ),
    "doctor.secrets": ("已保存的密钥 {count} 个，都能解开", "stored secrets: {count}, all can be opened"),
    "doctor.secrets_lost": (
        "这些密钥解不开：{names}。请设置原来的 SECRET_KEY，或重新填写它们。",
        "these secrets cannot be opened: {names}. Set the old SECRET_KEY, or enter them anew.",
    ),
    "doctor.no_bots": (
        "还没有机器人。请在控制台新建，或运行 flask apply examples/demo/qingniao.yaml",
        "there is no bot yet. Make one in the console, or run `flask apply examples/demo/qingniao.yaml`",
    ),
    "doctor.bot_unpublished": (
        "机器人 {name} 还没有发布。请在控制台发布。",
        "the bot {name} is not published. Publish it in the console.",
    ),
    "doctor.bot_misses": (
        "机器人 {name} 用到的东西不存在：{names}。请补上，或改掉后重新发布。",
        "the bot {name} refers to what does not exist: {names}. Add it, or take it out and publish again.",
    ),
    "doctor.bot": ("机器人 {name} 已发布第 {number} 版", "the bot {name} is published, version {number}"),
    "doctor.no_channels": (
        "还没有渠道。请在控制台新建一个网页渠道。",
        "there is no channel yet. Make a web channel in the console.",
    ),
    "doctor.channel_off": ("渠道 {name} 已停用", "the channel {name} is switched off"),
    "doctor.channel_unknown": (
        "渠道 {name} 的种类 {kind} 这个版本还不支持。",
        "the channel {name} is of the kind {kind}, which this version does not know.",
    ),
    "doctor.channel_mute": (
        "渠道 {name} 的机器人 {bot} 还没有发布，所以不能回答。请先发布。",
        "the channel {name} cannot answer: its bot {bot} is not published. Publish it.",
    ),
    "doctor.channel": ("渠道 {name}（{kind}）由 {bot} 回答", "on the channel {name} ({kind}) {bot} answers"),
    "doctor.documents_failed": (
        "{count} 个文档读取失败，例如《{title}》：{reason}请在控制台的知识库里处理。",
        "{count} document(s) could not be read, such as “{title}”: {reason} See the knowledge base in the console.",
    ),
    "doctor.documents_stuck": (
        "{count} 个文档 {minutes} 分钟没有进展。请看 flask worker 的日志。",
        "{count} document(s) have not moved for {minutes} minutes. See what `flask worker` says.",
    ),
    "doctor.documents": ("文档就绪 {ready} 个，等待 {waiting} 个", "documents ready: {ready}, waiting: {waiting}"),
    "doctor.turns_stuck": (
        "{count} 个问题等了超过 {minutes} 分钟。请看 flask replies 的日志。",
        "{count} question(s) have waited for more than {minutes} minutes. See what `flask replies` says.",
    ),
    "doctor.turns_failed": (
        "最近一天有 {count} 个问题没答成（{codes}）。原因见控制台的对话。",
        "{count} question(s) of the last day failed ({codes}). The console's conversations say why.",
    ),
    "doctor.turns": ("最近一天回答了 {count} 个问题", "questions answered within the last day: {count}"),
    "doctor.model_dim": (
        "{name} 配置的维数是 {said}，实际是 {real}。请改正 dim。",
        "{name} is configured with dim {said} but gives {real}. Correct dim.",
    ),
    "doctor.clock_skewed": (
        "本机时间与 {host} 相差 {seconds} 秒。请打开时间同步（NTP）。",
        "this machine's clock is {seconds} s off from {host}'s. Turn on time synchronisation (NTP).",
    ),
    "doctor.clock_right": ("本机时间准确", "this machine's clock is right"),
    "doctor.sum_fail": ("有 {count} 处要修，{warnings} 处要留意。", "{count} thing(s) to mend, {warnings} to keep an eye on."),
    "doctor.sum_ok": ("一切正常（{warnings} 处要留意）。", "All is well ({warnings} thing(s) to keep an eye on)."),
    "cli.no_channel": ("没有名为 {name} 的渠道。现有：{known}。", "There is no channel {name}. There are: {known}."),
    "cli.no_bot": ("没有名为 {name} 的机器人。现有：{known}。", "There is no bot {name}. There are: {known}."),
}

AGENT: dict[str, tuple[str, str]] = {
    "smalltalk.hello": ("您好，我是{title}，很高兴为您服务。", "Hello, I am {title}. Nice to meet you."),
    "smalltalk.who": (
        "我是{title}，一个自动应答的助手，回答都来自本店整理的资料。",
        "I am {title}, an automatic assistant. My answers come from the documents that were given to me.",
    ),
    "smalltalk.help": (
        "我是{title}，可以根据现有资料回答您的问题。",
        "I am {title}, and I can answer questions from my documents.",
    ),
    "smalltalk.thanks": (
        "不客气，很高兴能帮到您。还有问题随时问{title}。",
        "You are welcome. If anything else comes up, {title} is here.",
    ),
    "smalltalk.bye": (
        "再见，祝您愉快。有需要随时找{title}。",
        "Goodbye, and have a nice day. {title} is here whenever you need it.",
    ),
    "smalltalk.ok": ("好的。还有什么想了解的，随时告诉{title}。", "All right. If there is anything else, just ask {title}."),
    "smalltalk.topics": ("您可以这样问我：", " You could ask me, for example:"),
    "smalltalk.topics_none": ("请直接告诉我您想了解什么。", " Just tell me what you would like to know."),
    "builtin.nothing": ("抱歉，我在现有资料里没有找到相关内容。", "Sorry, I found nothing about that in my documents."),
    "builtin.nearest": ("相近的内容有：", "The nearest topics I know about:"),
    "builtin.no_knowledge": (
        "抱歉，我这里还没有可供查阅的资料，暂时回答不了这个问题。",
        "Sorry, I have no documents to look things up in yet, so I cannot answer that.",
    ),
    "refused": ("抱歉，现有资料里没有这个问题的答案。", "Sorry, my documents do not answer that question."),
    "followups.about": ("请介绍一下“{heading}”", "What should I know about \u201c{heading}\u201d?"),
    "error.model_broken": (
        "（回答中断了，以上内容可能不完整，请再试一次。）",
        "(The answer broke off here and may be incomplete. Please try again.)",
    ),
    "error.search": (
        "抱歉，资料暂时查不到，请稍后再试。",
        "Sorry, I cannot look things up in my documents right now. Please try again later.",
    ),
    "error.moderation": (
        "抱歉，内容检查暂时不可用，请稍后再试。",
        "Sorry, the content check is unavailable right now. Please try again later.",
    ),
    "probe.ok": ("可用：{model} 回答用时 {ms} 毫秒。", "It works: {model} answered in {ms} ms."),
    "probe.unauthorised": (
        "密钥不对，或无权使用该模型。请检查密钥。",
        "The key is wrong or may not use this model. Check the key.",
    ),
    "probe.not_found": (
        "地址或模型不存在。请检查地址（通常以 /v1 结尾）和模型名：{model}。",
        "No such address or model. Check the URL (it usually ends in /v1) and the model's name: {model}.",
    ),
    "probe.unreachable": (
        "连不上 {host}。请检查地址，以及服务是否已启动。",
        "Cannot reach {host}. Check the URL and that the service runs.",
    ),
    "probe.timeout": ("{host} 没有按时回答。请稍后再试。", "{host} did not answer in time. Try again later."),
    "probe.rate_limited": (
        "额度用尽或请求过多。请检查账户余额。",
        "Out of quota or too many requests. Check the account's balance.",
    ),
    "probe.unusable": ("{host} 的回答无法识别：{detail}", "{host} gave an answer that makes no sense: {detail}"),
    "probe.refused": ("{host} 拒绝了请求：{detail}", "{host} refused the request: {detail}"),
}

API: dict[str, tuple[str, str]] = {
    # what the JSON APIs answer to bad input, by error code
    "api.unreadable": ("请求内容须为 UTF-8 编码的 JSON 对象。", "The body must be a JSON object in UTF-8."),
    "api.too_large": ("请求太大了，请缩短后再发。", "The request is too large. Please shorten it and send again."),
    "api.too_long": (
        "消息太长了，最多 4000 个字。请缩短后再发。",
        "The message is too long: at most 4000 characters. Please shorten it.",
    ),
    "api.empty": ("请先输入问题。", "Please type a question first."),
    "api.wrong_shape": (
        "请求的格式不对，请对照接口文档检查各字段。",
        "A field of the request is missing or of the wrong kind. See the API's page.",
    ),
    "api.unauthorized": ("请在 Authorization 头中带上令牌。", "Send the token in the Authorization header, as Bearer."),
    "api.bad_token": ("会话令牌无效，请重新开始会话。", "The session's token is not valid. Start a new session."),
    "api.token_expired": ("会话已过期，请重新开始会话。", "The session has expired. Start a new one."),
    "api.unknown_turn": ("找不到这条回答。", "This answer is not known here."),
    "api.unknown_channel": ("没有这个渠道，或它已停用。", "There is no such channel, or it is switched off."),
    "api.unknown_conversation": ("找不到这个会话，请重新开始。", "This conversation is not known here. Start a new one."),
    "api.not_published": ("这个机器人还没有发布。", "This bot is not published yet."),
    "api.origin_not_allowed": ("这个网站没有被允许使用此聊天。", "This site is not allowed to use this chat."),
    "api.rate_limited": ("您发得太快了，请稍等片刻再试。", "You are sending too fast. Please wait a moment."),
    "api.too_many_questions": (
        "还有很多问题在等待回答，请稍等片刻再试。",
        "Many of your questions still wait for an answer. Please wait a moment.",
    ),
}

RUN: dict[str, tuple[str, str]] = {
    "run.disk": (
        "磁盘空间不足：{path} 只剩 {megabytes} MB。请腾出空间，或用 DATA_DIR 换一个目录。",
        "The disk is nearly full: {megabytes} MB are left for {path}. Free some, or set DATA_DIR to another folder.",
    ),
    "run.port_busy": (
        "端口 {port} 已被占用。请停掉占用它的程序，或换一个端口，例如 PORT=8001 make run。",
        "Port {port} is in use. Stop what uses it, or choose another: PORT=8001 make run.",
    ),
    "run.port_refused": (
        "不能在 {host}:{port} 上监听。请检查 HOST 和 PORT（小于 1024 的端口需要管理员权限）。",
        "Cannot listen on {host}:{port}. Check HOST and PORT (ports below 1024 need an administrator).",
    ),
    "run.already": (
        "{path} 正被另一个 make run 使用。请先停掉它，或用 DATA_DIR 换一个目录。",
        "Another `make run` uses {path}. Stop it first, or set DATA_DIR to another folder.",
    ),
    "run.flapping": (
        "{name} 反复退出（{count} 次，退出码 {code}），全部停止。原因见上面它的输出。",
        "{name} died {count} times in a row (exit code {code}); stopping everything. Its output above says why.",
    ),
    "run.restarting": ("{name} 退出了（退出码 {code}），正在重启。", "{name} died (exit code {code}) and is started again."),
    "run.not_ready": (
        "{seconds} 秒内没有准备好，已停止。请看上面的输出。",
        "Not ready within {seconds} s; stopped. See the output above.",
    ),
    "run.ready": ("青鸟已就绪。按 Ctrl-C 停止。", "Qingniao is ready. Ctrl-C stops it."),
    "run.chat": ("网页聊天：{url}", "Web chat: {url}"),
    "run.console": ("管理后台：{url}", "Console:  {url}"),
    "run.no_demo": (
        "示例没有装好，原因见上。其余功能正常；可以稍后运行 flask seed。",
        "The demo was not set up; the lines above say why. All else works; run `flask seed` later.",
    ),
    "run.password": (
        "管理员 {name} 的初始密码（只显示这一次）：{password}",
        "First password of {name} (shown only this once): {password}",
    ),
    "run.newer": (
        "数据目录由更新版本的青鸟写入（数据库版本 {revision}）。请升级程序，或换一个 DATA_DIR。",
        "The data was written by a newer Qingniao (database revision {revision}). Upgrade the program, or use another DATA_DIR.",
    ),
    "run.no_database": (
        "连不上数据库：{detail}。请检查 DATABASE_URL，以及数据库是否已启动。",
        "Cannot reach the database: {detail}. Check DATABASE_URL, and that the database runs.",
    ),
    "run.unreachable": (
        "{name} 指向的服务没有应答。请检查这个地址，以及服务是否已启动。",
        "Nothing answers where {name} points. Check the address, and that the service runs.",
    ),
    "run.waited": (
        "等了 {seconds} 秒，{what} 仍没有准备好。请看它的输出，或运行 flask doctor。",
        "Waited {seconds} s for {what}, in vain. See its output, or run `flask doctor`.",
    ),
    "run.foreign_folder": (
        "{path} 属于别人，或别人可以访问。请删除它，或把 DATA_DIR 设为较短的路径。",
        "{path} belongs to somebody else or is open to others. Remove it, or set DATA_DIR to a shorter path.",
    ),
    "run.no_redis": (
        "没有找到 redis-server。请安装 Redis，或设置 REDIS_URL。",
        "No redis-server was found. Install Redis, or set REDIS_URL.",
    ),
}

KNOWLEDGE: dict[str, tuple[str, str]] = {
    # What can be wrong with a document; kept as key and values in Document.error.
    "document.empty": ("文件是空的，没有可读的文字。", "The file is empty: there is no text to read."),
    "document.too_large": (
        "文件太大（{size_mb} MB），最多 {limit_mb} MB。请拆分后再上传。",
        "The file is too large ({size_mb} MB; at most {limit_mb} MB). Split it and upload the parts.",
    ),
    "document.too_long": (
        "文档太长，超过 {limit} 个片段。请拆分成几个文件。",
        "The document is too long: more than {limit} passages. Split it into several files.",
    ),
    "document.unsupported": (
        "暂不支持这种文件（{kind}）。可用：md、txt、html、pdf、docx。",
        "Files of this kind ({kind}) are not supported yet. Use md, txt, html, pdf or docx.",
    ),
    "document.lying": (
        "文件名说它是 {claimed}，内容却是 {real}。请换成正确的文件。",
        "The file's name says {claimed}, but its content is {real}. Upload the right file.",
    ),
    "document.encrypted": (
        "文件有密码保护。请去掉密码后再上传。",
        "The file is protected by a password. Remove the password and upload it again.",
    ),
    "document.broken": (
        "文件已损坏，无法读取（{kind}）。请重新导出后再上传。",
        "The file is damaged and cannot be read ({kind}). Export it again and upload the new one.",
    ),
    "document.no_text_layer": (
        "这个 PDF 没有文字层，多半是扫描件。请先做文字识别（OCR）再上传。",
        "This PDF has no text layer; it is probably a scan. Run text recognition (OCR) on it first.",
    ),
    "document.bomb": (
        "文件解压后过大，为安全起见不予读取。",
        "The file unpacks to far more than it should; it was not read, for safety.",
    ),
    "document.undecodable": (
        "认不出文件的文字编码。请另存为 UTF-8 后再上传。",
        "The text encoding of the file is not known. Save it as UTF-8 and upload it again.",
    ),
    "document.timeout": (
        "读取超时（{seconds} 秒）。请拆分成几个小一些的文件。",
        "Reading took longer than {seconds} s. Split the file into smaller ones.",
    ),
    "document.memory": (
        "读取这个文件需要的内存太多。请拆分成几个小一些的文件。",
        "Reading this file needs too much memory. Split it into smaller ones.",
    ),
    "document.died": (
        "读取这个文件时程序多次中断。请换一种格式或拆分后再试。",
        "Reading this file stopped the program several times. Try another format, or split it.",
    ),
    "document.gone": ("找不到文件的内容，请重新上传。", "The file's content is missing. Upload it again."),
    "embedding.failed": ("向量模型没有完成：{reason}", "The embedding model did not do it: {reason}"),
    "index.failed": ("向量库没有完成：{reason}", "The vector index did not do it: {reason}"),
    "url.bad": ("这不是一个 http 或 https 网址。", "This is not an http or https address."),
    "url.port": ("不允许访问端口 {port}，只能用 80 和 443。", "Port {port} is not allowed; only 80 and 443 are."),
    "url.private": (
        "{host} 是内网地址，不允许访问。如确需访问，请把它写进 ALLOW_PRIVATE_URLS。",
        "{host} is a private address and is not fetched. If it should be, list it in ALLOW_PRIVATE_URLS.",
    ),
    "url.unresolvable": ("找不到主机 {host}。请检查网址。", "The host {host} cannot be found. Check the address."),
    "url.unreachable": ("连不上 {host}。", "{host} cannot be reached."),
    "url.timeout": ("{host} 太慢，{seconds} 秒内没有读完。", "{host} is too slow: it was not read within {seconds} s."),
    "url.redirects": ("重定向太多（超过 {limit} 次）。", "Too many redirects (more than {limit})."),
    "url.status": ("对方返回了状态 {status}。", "The server answered with status {status}."),
    "url.type": ("这个网址的内容（{type}）暂不支持。", "What this address returns ({type}) is not supported."),
    "url.too_large": ("网页太大，最多 {limit_mb} MB。", "The page is too large: at most {limit_mb} MB."),
    # `flask ingest` and `flask search`
    "cli.ingest.base": (
        "{base} 不能作知识库的名称：只能用字母、数字、点、下划线和连字符，以字母或数字开头。",
        "{base} cannot be the name of a knowledge base: use letters, digits, dots, underscores and hyphens, and begin with a letter or digit.",
    ),
    "cli.ingest.missing": ("没有 {path} 这个文件。请检查路径。", "There is no file {path}. Check the path."),
    "cli.ingest.nothing": ("没有找到可以读取的文档。", "No document that could be read was found."),
    "cli.ingest.bad_row": (
        "{path} 第 {line} 行不是 {{id, title, text}} 形式的 JSON。请改正后再来一次。",
        "Line {line} of {path} is not a JSON object of the form {{id, title, text}}. Mend it and run this again.",
    ),
    "cli.ingest.no_worker": (
        "{count} 个文档已保存，但没有后台进程在处理。请先运行 make run，启动后会自动读取。",
        "{count} document(s) are stored, but no worker is there to read them. Start `make run`; it reads them by itself.",
    ),
    "cli.ingest.done": ("{count} 个文档可以搜索了。", "{count} document(s) can be searched."),
    "cli.ingest.failed": (
        "{count} 个文档没能读取，原因见上。",
        "{count} document(s) could not be read; the reasons stand above.",
    ),
    "cli.search.one": ("请给出一个问题，或用 --file 给出文件，二选一。", "Give either a question or --file."),
    "cli.search.no_base": ("没有知识库 {base}。现有：{known}。", "There is no knowledge base {base}. There is: {known}."),
    "cli.search.bad_row": (
        "{path} 第 {line} 行不是 {{id, question}} 形式的 JSON。",
        "Line {line} of {path} is not a JSON object of the form {{id, question}}.",
    ),
    "cli.search.nothing": ("什么也没找到。", "Nothing was found."),
    "cli.search.passage": (
        "{number}. {score}  {place}   向量 {dense}（第 {dense_rank}）  字词 {lexical}（第 {lexical_rank}）",
        "{number}. {score}  {place}   vectors {dense} (rank {dense_rank})  words {lexical} (rank {lexical_rank})",
    ),
    "cli.search.without": ("向量搜索没有用上：{reason}", "Searched by words alone: {reason}"),
}

CATALOGUE: dict[str, tuple[str, str]] = {**API, **RUN, **KNOWLEDGE, **CHAT, **AGENT, **WIDGET, **CLI, **CONSOLE}


def say(key: str, locale: str, **values: object) -> str:
    """The sentence for key in locale (zh… or anything else: English). Raises KeyError for an unknown key."""
    zh, en = CATALOGUE[key]
    return (zh if locale.startswith("zh") else en).format(**values)


def widget_texts(locale: str) -> dict[str, str]:
    """The web chat's sentences in locale, keyed without `widget.`; the browser fills in what stands in braces."""
    column = 0 if locale.startswith("zh") else 1
    return {key.removeprefix("widget."): pair[column] for key, pair in WIDGET.items() if key.startswith("widget.")}
